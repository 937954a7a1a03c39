"""Pictures that a page leafs through, stored without what they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Spec = dict[str, Any]


def book(specs: Sequence[Spec]) -> Spec:
    """Return pictures of the same traces as what they share, and a page for what each has alone.

    Args:
        specs: "data" and "layout" of each, with as many traces.

    Returns:
        "data" and "layout" of all, and "pages": of each what is laid over these.
    """
    traces = [_split(same) for same in zip(*(spec["data"] for spec in specs), strict=True)]
    layout, layouts = _split([spec["layout"] for spec in specs])
    return {
        "data": [shared for shared, _ in traces],
        "layout": layout,
        "pages": [
            {"data": [own[at] for _, own in traces], "layout": layouts[at]}
            for at in range(len(specs))
        ],
    }


def frame(spec: Spec) -> Spec:
    """Return a picture without the values that the page itself fills in: arrays of every trace."""
    filled = ("z", "customdata")
    bare = [
        {name: [] if name in filled else trace[name] for name in trace} for trace in spec["data"]
    ]
    return {**spec, "data": bare}


def _split(parts: Sequence[Mapping[str, Any]]) -> tuple[Spec, list[Spec]]:
    """What all parts hold, and what each holds of the rest."""
    first = parts[0] if parts else {}
    shared = {
        name: value
        for name, value in first.items()
        if all(name in part and part[name] == value for part in parts)
    }
    own = [{name: part[name] for name in part if name not in shared} for part in parts]
    return shared, own
