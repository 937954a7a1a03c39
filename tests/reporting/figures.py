"""The pictures of a page as plotly figures, which check what they are made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import plotly.graph_objects as go


def as_figure(spec: dict[str, Any]) -> go.Figure:
    return go.Figure(spec).update_layout(template="none")


def opened(book: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Return each picture of a book, as the page's script lays it together."""
    for page in book["pages"]:
        pairs = zip(book["data"], page["data"], strict=True)
        layout = {**book["layout"], **page["layout"]}
        yield {"data": [shared | own for shared, own in pairs], "layout": layout}
