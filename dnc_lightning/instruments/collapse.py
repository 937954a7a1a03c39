"""CDNV against directional CDNV."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from torch import Tensor

from dnc_lightning.functional import (
    ClassGeometry,
    cdnv,
    collapse_summary,
    directional_cdnv,
)
from dnc_lightning.functional.unbiased import samples_to_resolve
from dnc_lightning.functional.worst import worst_pairs
from dnc_lightning.probe.bench import Bench
from dnc_lightning.probe.instrument import Found
from dnc_lightning.series import Series

ENOUGH_RESOLVED = 0.9
"""Share of resolved pairs below which a probe asks for more samples."""

MOST_CLASSES = 256
"""Classes of a task up to which all of its pairs are recorded, 512 KB a probe."""

MOST_KEPT = 160
"""Classes of the worst pairs whose pairs are recorded where there are more, 200 KB a probe."""

MOST_PAIRS = 256
"""Worst pairs that are recorded with them."""


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
        *(
            _falling(
                f"{key}_worst_classes",
                f"{title} of the worst classes",
                f"of every ordered pair of the {MOST_KEPT} classes of the worst pairs by "
                f"directional CDNV, where a task has more than {MOST_CLASSES} classes",
                low=0.0,
                role=role,
                axes=("kept class", "kept class"),
            )
            for key, (title, _, role) in _NUMBERS.items()
        ),
        _series(
            "worst_classes", "Worst classes", "the numbers of these classes", axes=("kept class",)
        ),
        _falling(
            "class_worst",
            "Worst directional CDNV of classes",
            "the largest of all pairs that a class is the first of, and their mean, where "
            f"a task has more than {MOST_CLASSES} classes",
            low=0.0,
            role="directional",
            axes=("class", "worst and mean"),
        ),
        _series(
            "worst_pairs",
            "Worst pairs",
            f"the classes of the {MOST_PAIRS} pairs of the largest directional CDNV, the "
            f"worst first, where a task has more than {MOST_CLASSES} classes",
            axes=("worst pair", "end"),
        ),
        _falling(
            "worst_pair_values",
            "CDNV of the worst pairs",
            "CDNV and directional CDNV of these pairs",
            low=0.0,
            axes=("worst pair", "number"),
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
            arrays={"class_variance": geometry.variance, **_pairs(geometry)},
            notes=_advice(geometry, scalars),
        )


INSTRUMENT = Collapse()


def _pairs(geometry: ClassGeometry) -> dict[str, Tensor]:
    """Every pair of few classes; of many the worst, and what each class is like."""
    if geometry.num_classes <= MOST_CLASSES:
        return {"cdnv": cdnv(geometry), "directional_cdnv": directional_cdnv(geometry)}
    worst = worst_pairs(geometry, MOST_PAIRS, MOST_KEPT)
    return {
        "worst_classes": worst.classes,
        "cdnv_worst_classes": worst.cdnv,
        "directional_cdnv_worst_classes": worst.directional_cdnv,
        "class_worst": worst.by_class,
        "worst_pairs": worst.pairs,
        "worst_pair_values": worst.values,
    }


def _advice(geometry: ClassGeometry, scalars: Mapping[str, Tensor]) -> list[str]:
    """Say so when the probe is too small to tell its classes apart."""
    if int(geometry.count.min()) == 1:
        return [
            "classes with one sample have no variance: CDNV and the bounds are nan. Take "
            "per_class=2 at least; unbiased values need 4, and about 100 resolve most pairs."
        ]
    share = float(scalars["resolved_pairs"])
    if share >= ENOUGH_RESOLVED:
        return []
    needed, smallest = samples_to_resolve(geometry, ENOUGH_RESOLVED), int(geometry.count.min())
    more = "no number of samples can be named yet" if needed is None else f"about {needed} would"
    return [
        f"per_class={smallest} cannot resolve {1 - share:.0%} of the pairs: the distances of their "
        f"means are within sampling noise, and unbiased values leave them out; {more}."
    ]
