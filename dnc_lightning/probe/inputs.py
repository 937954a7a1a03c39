"""Compare the images that training gives an encoder with those that the probe gives it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dnc_lightning.probe.remedies import find_remedy, image_of, transfer_hooks
from dnc_lightning.probe.traces import Trace, first_image

ENOUGH_IMAGES = 8
"""Training images to look at before judging; one image may well be black."""

PATIENCE = 8
"""Training batches, at most, to look at for them."""


@dataclass(frozen=True)
class Summary:
    """Moments of the values of a batch of images."""

    images: int
    channels: int
    floating: bool
    low: float
    high: float
    mean: float
    std: float

    @classmethod
    def of(cls, images: Tensor) -> Summary:
        """Summarise images [N, C, H, W] of any type."""
        values = images.detach().float()  # MPS has no float64
        low, high = torch.aminmax(values)
        std, mean = torch.std_mean(values, correction=0)
        numbers = torch.stack([low, high, mean, std]).tolist()
        return cls(len(images), images.shape[1], images.is_floating_point(), *numbers)

    def merge(self, other: Summary) -> Summary:
        """Summarise both; one image counts as much as another."""
        images = self.images + other.images
        mine, its = self.images / images, other.images / images
        mean = mine * self.mean + its * other.mean
        square = mine * (self.std**2 + self.mean**2) + its * (other.std**2 + other.mean**2)
        return Summary(
            images,
            other.channels,
            other.floating,
            min(self.low, other.low),
            max(self.high, other.high),
            mean,
            max(0.0, square - mean**2) ** 0.5,
        )

    def __str__(self) -> str:
        """Say it for the warning."""
        kind = "floats" if self.floating else "integers"
        return (
            f"{kind} in [{self.low:.3g}, {self.high:.3g}], mean {self.mean:.3g}, "
            f"std {self.std:.3g}, {self.channels} channels"
        )


def differ(a: Summary, b: Summary) -> bool:
    """Whether images with these moments cannot have been prepared in the same way.

    Silent about what augmentation, noise and another domain do. Standardising multiplies the
    standard deviation by 2 (mean and std .5), 2.8 (Fashion-MNIST's), 3.2 (MNIST's) to 4.4
    (ImageNet's) and makes values negative that were not; jitter, grey, blur, solarisation and crops
    keep a batch's standard deviation within about 1.5, and noise makes values negative without
    moving their mean. Bytes reach 255 times as far as floats. So:

    - integers against floats, or another number of channels;
    - values that reach 20 times as far (a dark batch of bytes still reaches 20);
    - negative values on one side only, and a std 1.7 times as large, or a mean that is within a
      std of 0 on that side and moved by more than the smaller std;
    - a std 2.5 times as large.
    """
    if a.floating != b.floating or a.channels != b.channels:
        return True
    if min(a.std, b.std) == 0:
        return False  # blank images tell nothing
    reach = [max(abs(s.low), abs(s.high)) for s in (a, b)]
    spread = max(a.std, b.std) / min(a.std, b.std)
    one_sided = (a.low < 0) != (b.low < 0)
    centred = a if a.low < 0 else b
    moved = abs(a.mean - b.mean) > min(a.std, b.std) and abs(centred.mean) < centred.std
    return max(reach) > 20 * min(reach) or (one_sided and (spread > 1.7 or moved)) or spread > 2.5


@dataclass(frozen=True)
class Watched:
    """Where an encoder's images go in, and what the probe gives it there."""

    outer: nn.Module  # the first module that is given the images
    inner: nn.Module  # the innermost one, after what the encoder itself does to them
    probe: Summary  # at the inner one

    @classmethod
    def of(cls, trace: Trace) -> Watched | None:
        """Take them from the trial; None for an encoder that gives its images to no module."""
        if not trace.entrances:
            return None
        first, last = trace.entrances[0], trace.entrances[-1]
        return cls(first.module, last.module, Summary.of(last.images))


class InputCheck:
    """Looks at what the first training batches give the encoders, and compares once.

    A hook reads the images where they enter the innermost module that takes images, so that it does
    not matter on which way training calls the encoder, and changes nothing. It is there while the
    first batches run; where something is compiled, which a hook would compile anew, and where
    training gives that module no images, the batch itself is looked at instead, and only if a
    transfer hook has changed it can it be said what training does.

    Args:
        module: The LightningModule.
        watched: From the trial.
        sample: Images [N, C, H, W] of the probe as the bank gives them.
        preprocessed: The user has passed `preprocess`.
    """

    def __init__(
        self, module: nn.Module, watched: Sequence[Watched], sample: Tensor, preprocessed: bool
    ) -> None:
        self.module = module
        self.watched = watched
        self.sample = sample
        self.preprocessed = preprocessed
        self.batches = 0
        self.done = not watched
        self._seen: dict[int, Summary] = {}  # position in `watched` -> what training gives
        self._fed_bytes: set[int] = set()  # positions whose outer module was given integers
        self._hooks: list[Any] = []

    def begin(self, batch: Any) -> None:
        """Watch the training step that is about to run on `batch`."""
        if self.done or is_compiled(self.module):
            return
        for position, watched in enumerate(self.watched):
            self._watch(position, watched.inner, batch, self._take)
            self._watch(position, watched.outer, batch, self._take_type)

    def end(self, batch: Any, datamodule: Any = None) -> list[str]:
        """Judge once enough images were seen; return at most one warning.

        Args:
            batch: As the training step was given it.
            datamodule: Of the Trainer; its transfer hooks count before the module's.
        """
        if self.done:
            return []
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self.batches += 1
        enough = [
            position in self._seen and self._seen[position].images >= ENOUGH_IMAGES
            for position in range(len(self.watched))
        ]
        if not all(enough) and self.batches < PATIENCE and not is_compiled(self.module):
            return []
        self.done = True
        hooks = transfer_hooks(self.module, datamodule)
        for position, watched in enumerate(self.watched):
            training = self._seen.get(position)
            found = image_of(batch, watched.probe.channels) if hooks else None
            if training is None and found is not None and found[1].is_floating_point():
                training = Summary.of(found[1])
            if training is not None and differ(training, watched.probe):
                return [self._warning(training, watched.probe, batch, hooks, position)]
        return []

    def _watch(self, position: int, module: nn.Module, batch: Any, take: Any) -> None:
        # DistributedDataParallel runs the training step through the module's forward.
        step = batch if module is self.module else None
        look = _Look(partial(take, position), step)
        look.hook = module.register_forward_pre_hook(look, with_kwargs=True)
        self._hooks.append(look.hook)

    def _take(self, position: int, images: Tensor) -> None:
        found = Summary.of(images)
        before = self._seen.get(position)
        self._seen[position] = found if before is None else before.merge(found)

    def _take_type(self, position: int, images: Tensor) -> None:
        if not images.is_floating_point():
            self._fed_bytes.add(position)

    def _warning(
        self, training: Summary, probe: Summary, batch: Any, hooks: Any, position: int
    ) -> str:
        remedy = None
        if not self.preprocessed:
            remedy = find_remedy(
                self.module,
                self.sample,
                batch,
                hooks,
                fed_bytes=position in self._fed_bytes,
                alike=lambda a, b: not differ(Summary.of(a), Summary.of(b)),
            )
        if remedy is None:
            where = f" ({', '.join(hook.name for hook in hooks)} changes batches)" if hooks else ""
            remedy = (
                "ProbeCallback(preprocess=lambda module, images: ...) or ProbeSet(transform=...) "
                f"that does to the probe's images what training does{where}, except at random"
            )
        return (
            f"Training gives the encoder {training}; the probe gives it {probe}. They cannot have "
            "been prepared in the same way, so the values are not of what training sees. Pass "
            f"{remedy}."
        )


class _Look:
    """A hook that passes on the first images of a training step; where it is copied, nothing."""

    def __init__(self, take: Callable[[Tensor], None], step: Any = None) -> None:
        self.take = take
        self.step = step  # a batch: what is given this one is the training step
        self.hook: Any = None

    def __call__(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        step = self.step is not None and args and args[0] is self.step
        images = None if step or torch.compiler.is_compiling() else first_image(args, kwargs)
        if images is None or not images.numel():
            return
        self.hook.remove()  # the first call of a batch is enough
        # Under vmap, in a trace or a captured graph there are no numbers to look at.
        if not _is_abstract(images):
            with suppress(RuntimeError, NotImplementedError):
                self.take(images)

    def __reduce__(self) -> Any:
        """Copies of a module, and files, hold a function that does nothing in its place."""
        return _no_look, ()


def _no_look() -> Callable[..., None]:
    return _pass


def _pass(*_args: Any) -> None:
    """Stands where a copy was made while training was being watched."""


def _is_abstract(images: Tensor) -> bool:
    capturing = images.is_cuda and torch.cuda.is_current_stream_capturing()
    return capturing or torch._C._get_tracing_state() is not None or images.is_meta


def is_compiled(module: nn.Module) -> bool:
    """Whether torch.compile was used on the module, a submodule or one of their functions."""
    return any(_compiled_parts(module))


def _compiled_parts(module: nn.Module) -> Iterator[bool]:
    yield getattr(module, "_compiler_ctx", None) is not None  # Lightning, of a compiled module
    for submodule in module.modules():
        yield hasattr(submodule, "_orig_mod")
        yield getattr(submodule, "_compiled_call_impl", None) is not None
        for space in (submodule, *type(submodule).__mro__):
            for value in vars(space).values():
                yield callable(value) and hasattr(value, "_torchdynamo_orig_callable")
