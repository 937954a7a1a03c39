"""What features show of their health without any label."""

from __future__ import annotations

from functools import partial
from typing import Any

from dnc_lightning.functional._whole import thinned
from dnc_lightning.functional.dispersion import (
    UNIFORMITY_SAMPLES,
    dead_units,
    feature_norms,
    sphere_uniformity,
    uniformity,
)
from dnc_lightning.functional.spectrum import (
    ALPHA_RANKS,
    Spectrum,
    alpha_req,
    effective_rank,
    feature_spectrum,
    noise_eigenvalues,
    rankme,
)
from dnc_lightning.probe.bench import Bench
from dnc_lightning.probe.instrument import Found
from dnc_lightning.series import Reference, Series

_health = partial(Series, group="Health", scope="features")
_RANK: dict[str, Any] = {"unit": "dimensions", "low": 1.0, "scale": "log"}
_NOISE = "as many vectors of white noise of that dimension"

RANK_SAMPLES, RANK_DIMENSIONS = 5000, 512
"""Samples that ranks and alpha-ReQ are of, evenly spaced: all that the probe has up to the first;
up to the second where features are wider than that, for the cost is the cube of the lesser of the
two, and would come near that of the forward passes."""


def _of_noise(key: str) -> tuple[Reference, ...]:
    return (Reference("noise of the same size", f"{key}_noise"),)


class Health:
    """Whether features use their dimensions, fill the sphere and have units that are alive."""

    name = "health"
    series = (
        _health(
            key="rankme",
            title="RankMe",
            meaning="exponential of the entropy of the singular values of the features, uncentred "
            f"as published: a common offset lowers it; of at most {RANK_SAMPLES:,} samples, or "
            f"{RANK_DIMENSIONS} where features have more dimensions",
            direction="higher",
            references=_of_noise("rankme"),
            **_RANK,
        ),
        _health(
            key="rankme_centred",
            title="RankMe, centred",
            meaning="the same of the features minus their mean",
            direction="higher",
            references=_of_noise("rankme"),
            **_RANK,
        ),
        _health(
            key="effective_rank",
            title="Effective rank",
            meaning="exponential of the entropy of the eigenvalues of the covariance, centred",
            direction="higher",
            references=_of_noise("effective_rank"),
            **_RANK,
        ),
        _health(
            key="alpha_req",
            title="alpha-ReQ",
            meaning="exponent of the decay of the covariance's eigenvalues of rank {} to {}; said "
            "to be best near 1; nan where there are fewer".format(*ALPHA_RANKS),
            references=_of_noise("alpha_req"),
        ),
        _health(
            key="uniformity",
            title="Uniformity",
            meaning="log of the mean of exp(-2 d^2) over pairs of directions, of at most "
            f"{UNIFORMITY_SAMPLES} samples: 0 where all are one",
            high=0.0,
            direction="lower",
            references=(Reference("the whole sphere", "uniformity_noise"),),
        ),
        _health(
            key="dead_units",
            title="Dead units",
            meaning="share of the dimensions that are the same for all samples that ranks are of",
            low=0.0,
            high=1.0,
            direction="lower",
        ),
        _health(
            key="norm",
            title="Norm of the features",
            meaning="mean over samples, as the probe normalises them or not",
            unit="length",
            low=0.0,
        ),
        _health(
            key="norm_spread",
            title="Spread of the norms",
            meaning="standard deviation of the norms over their mean",
            low=0.0,
        ),
        _health(
            key="rankme_noise",
            title="RankMe of noise",
            meaning=f"of {_NOISE}",
            **_RANK,
        ),
        _health(
            key="effective_rank_noise",
            title="Effective rank of noise",
            meaning=f"of {_NOISE}",
            **_RANK,
        ),
        _health(
            key="alpha_req_noise",
            title="alpha-ReQ of noise",
            meaning=f"of {_NOISE}",
        ),
        _health(
            key="uniformity_noise",
            title="Uniformity of the sphere",
            meaning="of directions that fill the sphere of that dimension",
            high=0.0,
        ),
    )

    def measure(self, bench: Bench) -> Found:
        """One spectrum, one pass over the norms, and the pairs of some samples."""
        dim = bench.features.shape[1]
        most = RANK_SAMPLES if dim <= RANK_DIMENSIONS else RANK_DIMENSIONS
        samples = min(sum(bench.counts), most)
        features, shard = thinned(bench.features, most, bench.shard)
        spectrum = feature_spectrum(features, shard=shard)
        norms = feature_norms(bench.features, shard=bench.shard)
        noise = noise_eigenvalues(samples, dim)
        return Found(
            {
                "rankme": rankme(spectrum.uncentred),
                "rankme_centred": rankme(spectrum.centred),
                "effective_rank": effective_rank(spectrum.centred),
                "alpha_req": alpha_req(spectrum.centred),
                "uniformity": uniformity(bench.features, shard=bench.shard),
                "dead_units": dead_units(spectrum),
                "norm": norms.mean,
                "norm_spread": norms.spread,
                "rankme_noise": rankme(noise),
                "effective_rank_noise": effective_rank(noise),
                "alpha_req_noise": alpha_req(noise),
                "uniformity_noise": sphere_uniformity(dim),
            },
            notes=_reasons(spectrum),
        )


def _reasons(spectrum: Spectrum) -> list[str]:
    """Why a number is nan, beyond what its declaration says."""
    if bool(spectrum.centred.isnan().any()):
        return [
            "Ranks of centred features and alpha-ReQ are nan: all features are the same, up to "
            "rounding."
        ]
    return []


INSTRUMENT = Health()
