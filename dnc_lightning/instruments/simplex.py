"""Neural collapse of the class means: NC1 and NC2, each beside what noise would give."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from dnc_lightning.functional.simplex import nc1, simplex, simplex_floor, within_rank
from dnc_lightning.functional.unbiased import MIN_SAMPLES
from dnc_lightning.probe.bench import Bench
from dnc_lightning.probe.instrument import Found
from dnc_lightning.series import Reference, Series

_simplex = partial(Series, group="Simplex geometry", direction="lower", low=0.0)
_NOISE = "random means"


def _floor(key: str, title: str, of: str) -> Series:
    return Series(
        key=f"{key}_noise",
        title=title,
        meaning=f"{of} of means of white noise of that size",
        group="Simplex geometry",
    )


class SimplexGeometry:
    """How near the class means are to a simplex, from distances that few samples do not bias."""

    name = "simplex"
    series = (
        _simplex(
            key="nc1",
            title="NC1",
            meaning="within-class over between-class variability, tr(S_W S_B^+) / K, of the "
            "samples: few of them lower it",
            scale="log",
            references=(Reference("noise of the same size", "nc1_noise"),),
        ),
        _simplex(
            key="nc1_share",
            title="NC1, share",
            meaning="within-class share of the variance, tr S_W / (tr S_W + tr S_B), unbiased",
            references=(Reference("noise", 1.0),),
        ),
        _simplex(
            key="nc2/equinorm",
            title="NC2, equinorm",
            meaning="standard deviation over mean of the lengths of the centred class means",
            references=(Reference(_NOISE, "nc2/equinorm_noise"),),
        ),
        _simplex(
            key="nc2/equiangular",
            title="NC2, equiangular",
            meaning="standard deviation of the cosines between centred class means, of those that "
            "are told from the centre; nan if these are less than half",
            references=(Reference(_NOISE, "nc2/equiangular_noise"),),
        ),
        _simplex(
            key="nc2/coherence",
            title="NC2, coherence",
            meaning="mean |cos + 1 / (K - 1)| between centred class means",
            references=(Reference(_NOISE, "nc2/coherence_noise"),),
        ),
        _simplex(
            key="nc2/etf_distance",
            title="NC2, distance to the simplex",
            meaning="of the Gram matrices of the means and of the simplex, each of norm 1",
            high=1.4142135623730952,
            references=(
                Reference(_NOISE, "nc2/etf_distance_noise"),
                Reference("least in that dimension", "nc2/etf_least"),
            ),
        ),
        Series(
            key="gnc2/mean",
            title="GNC2",
            meaning="mean log of 1 / distance of the directions of two means, less that of the "
            "simplex",
            group="Simplex geometry",
            direction="lower",
        ),
        _simplex(
            key="gnc2/spread",
            title="GNC2, spread",
            meaning="standard deviation of log of 1 / distance over pairs of classes",
        ),
        _simplex(
            key="nc1_rank",
            title="Rank within classes",
            meaning="effective rank of the covariance within classes: what collapse has left for "
            "other tasks",
            direction=None,
            unit="dimensions",
            thorough=True,
        ),
        _floor("nc1", "NC1 of noise", "NC1"),
        _floor("nc2/equinorm", "Equinorm of noise", "equinorm"),
        _floor("nc2/equiangular", "Equiangular of noise", "equiangular"),
        _floor("nc2/coherence", "Coherence of noise", "coherence"),
        _floor("nc2/etf_distance", "Distance to the simplex of noise", "distance to the simplex"),
        Series(
            key="nc2/etf_least",
            title="Least distance to the simplex",
            meaning="of any means in that dimension; above 0 where it is below K - 1",
            group="Simplex geometry",
        ),
    )

    def measure(self, bench: Bench) -> Found:
        """The means' part costs nothing beside the geometry; NC1 one product with the means."""
        counts = bench.counts
        floor = simplex_floor(
            len(counts), bench.features.shape[1], len(counts) / sum(1 / n for n in counts)
        )
        plain = bench.geometry
        found = simplex(bench.unbiased_geometry)
        few = [n for n, c in zip(bench.classes, counts, strict=True) if c < MIN_SAMPLES]
        notes = [
            f"Simplex geometry is nan: unbiased distances need {MIN_SAMPLES} samples of each "
            f"class, {name} has fewer."
            for name in few[:1]
        ]
        if not few and (lost := len(counts) - int(found.told)):
            notes.append(
                f"{lost} of {len(counts)} class means of {bench.name} are not told from their "
                "centre: angles and GNC2 leave them out."
            )
        rank: dict[str, Tensor | float] = {}
        if bench.thorough:
            rank["nc1_rank"] = within_rank(bench.features, bench.labels, plain, reduce=bench.reduce)
        if len(counts) == 2:
            notes.append(f"The two class means of {bench.name} are a simplex whatever they are.")
        return Found(
            rank
            | {
                "nc1": nc1(bench.features, bench.labels, plain, reduce=bench.reduce),
                "nc1_share": found.within_share,
                "nc2/equinorm": found.equinorm,
                "nc2/equiangular": found.equiangular,
                "nc2/coherence": found.coherence,
                "nc2/etf_distance": found.etf_distance,
                "gnc2/mean": found.log_energy,
                "gnc2/spread": found.log_energy_spread,
                "nc1_noise": floor.nc1,
                "nc2/equinorm_noise": floor.equinorm,
                "nc2/equiangular_noise": floor.equiangular,
                "nc2/coherence_noise": floor.coherence,
                "nc2/etf_distance_noise": floor.etf_distance,
                "nc2/etf_least": floor.etf_least,
            },
            notes=notes,
        )


INSTRUMENT = SimplexGeometry()
