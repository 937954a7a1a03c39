"""The declaration of a series that special charts draw, also where a run recorded none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dnc_lightning.records.declarations import declarations
from dnc_lightning.series import SHOTS, Series

OLD_RUN = "Of a run that declares no series."


def _old(key: str, title: str, role: str, group: str) -> Series:
    return Series(key, title, OLD_RUN, group, scale="log", role=role)


# What the runs that came before declarations recorded.
OLD = {
    series.key: series
    for series in (
        _old("cdnv", "CDNV", "standard", "Collapse"),
        _old("directional_cdnv", "Directional CDNV", "directional", "Collapse"),
        _old("few_shot_error/{m}", "Measured error, m={m}", "measured", "Few-shot error"),
        _old("certificate/{m}", "Certificate, m={m}", "certificate", "Few-shot error"),
        _old("joint/{m}", "Joint certificate, m={m}", "joint", "Few-shot error"),
        _old("conditional/{m}", "Conditional certificate", "conditional", "Few-shot error"),
        _old("guarantee/{m}", "Guaranteed error", "guarantee", "Few-shot error"),
        _old("theorem_4_1/{m}", "Theorem 4.1, m={m}", "theorem_4_1", "Few-shot error"),
        _old("luthra_2025/{m}", "2025 bound, m={m}", "luthra_2025", "Few-shot error"),
        _old("{a}-{b}/abs_cos", "Mean |cos|, {a} and {b}", "measured", "Angles between tasks"),
        Series("variance", "Variance by direction", OLD_RUN, "Variance", axes=("pair", "part")),
    )
}
PLACES = (f", m={SHOTS}", ", {a} and {b}")


def declared(header: Mapping[str, Any], key: str) -> Series:
    """Return what a run declares of a series, titled for all its shots or pairs of tasks at once.

    Args:
        header: Of the run.
        key: One of `OLD`.
    """
    old = OLD[key]
    told = (s for s in declarations(header)[0] if s.key == key and bool(s.axes) == bool(old.axes))
    series = next(told, old)
    title = series.title
    for place in PLACES:
        title = title.removesuffix(place)
    return replace(series, title=title)
