"""CDNV against directional CDNV."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from dnc_lightning.functional import (
    ClassGeometry,
    cdnv,
    collapse_summary,
    debias,
    directional_cdnv,
    resolved_pairs,
)
from dnc_lightning.functional.unbiased import samples_to_resolve
from dnc_lightning.probe.bench import Bench
from dnc_lightning.probe.instrument import Found
from dnc_lightning.series import Series

ENOUGH_RESOLVED = 0.9
"""Share of resolved pairs below which a probe asks for more samples."""


_NUMBERS = {
    "cdnv": ("CDNV", "variance of a class over squared distance to another, unhalved", "standard"),
    "directional_cdnv": (
        "Directional CDNV",
        "the same variance along the axis between the two alone",
        "directional",
    ),
}
_AVERAGES = {
    "": ("", "plug-in, mean over ordered pairs, as published"),
    "_median": (", median", "plug-in, median over pairs: not ruled by the worst one"),
    "_unbiased": (
        ", unbiased",
        "of the population, mean over the resolved pairs; nan unless these are most",
    ),
    "_low": (", low end", "lower end of the 95 % interval of the unbiased value"),
    "_high": (", high end", "upper end of the 95 % interval of the unbiased value"),
}
_series = partial(Series, group="Collapse")
_falling = partial(_series, direction="lower", scale="log")


def _averages() -> Iterator[Series]:
    for suffix, (short, kind) in _AVERAGES.items():
        for key, (title, meaning, role) in _NUMBERS.items():
            yield _falling(
                key + suffix,
                title + short,
                kind if short else f"{meaning}; {kind}",
                low=0.0 if suffix in ("", "_median") else None,
                role=role,
                thorough=suffix in ("_low", "_high"),
            )


class Collapse:
    """How small a class is beside its distance from another, in all directions and along one."""

    name = "collapse"
    series = (
        *_averages(),
        _series(
            "resolved_pairs",
            "Resolved pairs",
            "fraction of pairs whose distance the probe can tell from zero",
            low=0.0,
            high=1.0,
            direction="higher",
        ),
        *(
            _falling(
                key,
                f"{title} of pairs",
                "of every ordered pair of classes",
                low=0.0,
                role=role,
                axes=("class", "class"),
            )
            for key, (title, _, role) in _NUMBERS.items()
        ),
        _series(
            "class_variance",
            "Variance of classes",
            "of each class; over a pair's CDNV it gives the squared distance",
            unit="squared units of the features",
            low=0.0,
            scale="log",
            axes=("class",),
        ),
    )

    def measure(self, bench: Bench) -> Found:
        """Average over pairs, and keep every pair."""
        geometry = bench.geometry
        scalars = collapse_summary(geometry)
        if bench.thorough:
            ends = bench.intervals.items()
            scalars |= {key: end for key, end in ends if not key.startswith("certificate")}
        return Found(
            scalars=scalars,
            arrays={
                "cdnv": cdnv(geometry),
                "directional_cdnv": directional_cdnv(geometry),
                "class_variance": geometry.variance,
            },
            notes=_advice(geometry),
        )


INSTRUMENT = Collapse()


def _advice(geometry: ClassGeometry) -> list[str]:
    """Say so when the probe is too small to tell its classes apart."""
    if int(geometry.count.min()) == 1:
        return [
            "classes with one sample have no variance: CDNV and the bounds are nan. Take "
            "per_class=2 at least; unbiased values need 4, and about 100 resolve most pairs."
        ]
    estimate = debias(geometry)
    share = float(resolved_pairs(estimate))
    if share >= ENOUGH_RESOLVED:
        return []
    needed, smallest = samples_to_resolve(estimate, ENOUGH_RESOLVED), int(geometry.count.min())
    more = "no number of samples can be named yet" if needed is None else f"about {needed} would"
    return [
        f"per_class={smallest} cannot resolve {1 - share:.0%} of the pairs: the distances of their "
        f"means are within sampling noise, and unbiased values leave them out; {more}."
    ]
