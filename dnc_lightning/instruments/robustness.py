"""What attacks on the probe's images do to their nearest class centre."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from dnc_lightning.functional._scale import unit_rows
from dnc_lightning.functional.sensitivity import Encode, attacked
from dnc_lightning.probe.bench import Bench
from dnc_lightning.probe.instrument import Found
from dnc_lightning.probe.passes import Passes
from dnc_lightning.series import CHANCE, Reference, Series

_robust = partial(Series, group="Robustness", thorough=True, low=0.0)
_error = partial(_robust, high=1.0, direction="lower", references=(Reference("chance", CHANCE),))


class Robustness:
    """Error of the nearest clean class mean under projected gradient ascent, beside noise.

    Features of attacked images leap to the mean of another class (Su et al., arXiv:2311.07444); no
    head is needed. The control is noise of the same size, random signs: what it does as well is no
    work of the attack. The means are of the same clean images. An image costs 2 `steps` passes and
    more, so it is measured at the first and last probe alone, and not where BatchNorm statistics
    are borrowed or the module is sharded.

    Args:
        eps: Largest change of a pixel, on the scale of 0 to 1.
        steps: Of the attack.
        std: Of each channel, of the probe's Normalize, by which `eps` is divided; None where images
            are between 0 and 1, and stay so.

    Raises:
        ValueError: an argument out of range.
    """

    name = "robustness"
    series = (
        _error(
            key="robust/error",
            title="Error under attack",
            meaning="share of attacked images whose nearest clean class mean is another's",
        ),
        _error(
            key="robust/error_noise",
            title="Error under noise",
            meaning="the same of images with random signs of the same size added",
        ),
        _error(key="robust/error_clean", title="Error without", meaning="the same of clean images"),
        _robust(
            key="robust/mean_cosine",
            title="Attacked means, cosine",
            meaning="mean over classes of the cosine between attacked and clean class mean, both "
            "centred on the clean ones",
            low=-1.0,
            high=1.0,
            direction="higher",
        ),
        _robust(
            key="robust/leaps",
            title="Leaps under attack",
            meaning="share of each class's attacked images that is nearest to each clean mean",
            high=1.0,
            axes=("class", "class"),
            most_classes=256,
        ),
    )

    def __init__(
        self,
        eps: float = 8 / 255,
        steps: int = 10,
        std: Sequence[float] | None = None,
    ) -> None:
        if not eps > 0 or not isinstance(steps, int) or steps < 1:
            raise ValueError(f"need eps > 0 and steps >= 1, got eps={eps} and steps={steps}.")
        self.eps = eps
        self.steps = steps
        self.std = std

    def measure(self, bench: Bench) -> Found:
        """Passes with gradients over all images, at thorough probes."""
        if not bench.thorough:
            return Found()
        passes = bench.passes
        if isinstance(passes, str):
            return Found(notes=[f"Robustness is nan: {passes}."])
        centre = bench.geometry.mean.mean(0)  # around it, an offset costs float32 no digits
        means = (bench.geometry.mean - centre).float()
        k = len(means)
        leaps = torch.zeros(3, k, k, dtype=torch.float64)  # attacked, noise, clean
        sums = torch.zeros(k, means.shape[1], dtype=torch.float64)
        generator, begin = torch.Generator().manual_seed(0), 0
        with passes.open():
            encode = _measured(passes, bench, centre.float())
            for images in passes.batches():
                labels = bench.labels[begin : begin + len(images)].to(images.device)
                begin += len(images)
                size = self._size(images)
                low, high = self._range(images)
                worst = attacked(
                    encode, images, labels, means, size=size, steps=self.steps, low=low, high=high
                )
                drawn = torch.randint(0, 2, images.shape, generator=generator).to(images) * 2 - 1
                noisy = images + size * drawn
                noisy = noisy if low is None else noisy.clamp(low, high)
                for place, changed in enumerate((worst, noisy, images)):
                    with torch.no_grad():
                        found = encode(changed)
                    near = torch.cdist(found, means).argmin(1)
                    pairs = (labels * k + near).cpu()
                    leaps[place] += torch.bincount(pairs, minlength=k * k).view(k, k)
                    if place == 0:
                        sums.index_add_(0, labels.cpu(), found.double().cpu())
        return Found(*self._numbers(bench, leaps, sums))

    def _numbers(
        self, bench: Bench, leaps: Tensor, sums: Tensor
    ) -> tuple[dict[str, Tensor | float], dict[str, Tensor]]:
        device = bench.features.device
        leaps, sums = (bench.total(t.to(device, bench.geometry.mean.dtype)) for t in (leaps, sums))
        count = leaps[0].sum(1)
        share = leaps / count[:, None]
        wrong = 1 - torch.diagonal(leaps, dim1=1, dim2=2).sum(1) / count.sum()
        clean = bench.geometry.mean - bench.geometry.mean.mean(0)
        cosine = torch.nn.functional.cosine_similarity(sums / count[:, None], clean)
        scalars: dict[str, Tensor | float] = {
            "robust/error": wrong[0],
            "robust/error_noise": wrong[1],
            "robust/error_clean": wrong[2],
            "robust/mean_cosine": cosine.mean(),
        }
        few = len(clean) <= 256
        return scalars, {"robust/leaps": share[0]} if few else {}

    def _size(self, images: Tensor) -> Tensor:
        std = torch.ones(images.shape[1]) if self.std is None else torch.tensor(self.std)
        if std.shape != images.shape[1:2]:
            raise ValueError(f"std has {len(std)} channels, the images {images.shape[1]}.")
        return (self.eps / std).to(images).view(1, -1, *[1] * (images.ndim - 2))

    def _range(self, images: Tensor) -> tuple[float | None, float | None]:
        if self.std is not None:
            return None, None
        if float(images.min()) < 0 or float(images.max()) > 1:
            raise ValueError(
                "the probe's images are not between 0 and 1: give Robustness(std=...) of their "
                "Normalize."
            )
        return 0.0, 1.0


def _measured(passes: Passes, bench: Bench, centre: Tensor) -> Encode:
    """Features as they are measured, around the centre of the class means."""

    def encode(images: Tensor) -> Tensor:
        features = passes.encode(images)
        return (unit_rows(features) if bench.settings.normalize else features).float() - centre

    return encode


INSTRUMENT = Robustness()
