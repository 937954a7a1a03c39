"""Pages as one file each: template, style, scripts and data together, so that no request leaves."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader

from dnc_lightning.reporting.draw.axes import plotly_script
from dnc_lightning.reporting.theme import DARK, FONT, LIGHT, css_variables


def render(
    name: str,
    scripts: Sequence[str],
    data: Mapping[str, Any],
    *,
    plotted: bool = True,
    **values: Any,
) -> str:
    """Return the HTML of a page.

    Args:
        name: Of its template, which extends base.html.
        scripts: Names of its parts, which are joined in one scope.
        data: What they read, as plain JSON values.
        plotted: Whether the plotting library is part of it.
        values: What the template shows besides; text is escaped.

    Raises:
        ModuleNotFoundError: If plotly is needed and not installed.
    """
    # A "<" can only be inside a string there, where it could end the script element.
    content = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    environment = Environment(loader=FunctionLoader(_asset), autoescape=True, trim_blocks=True)
    return environment.get_template(name).render(
        values,
        written=time.strftime("%Y-%m-%d %H:%M:%S"),
        style=_asset("report.css"),
        font=FONT,
        light=css_variables(LIGHT),
        dark=css_variables(DARK),
        plotly=plotly_script() if plotted else "",
        script="".join(map(_asset, scripts)),
        data=content,
    )


@cache
def _asset(name: str) -> str:
    return files("dnc_lightning.reporting").joinpath("assets", name).read_text(encoding="utf-8")
