"""Colours and type of every picture, as values that a page or a plot can both use.

Every series keeps its colour everywhere. Blue against orange is told apart with every common kind
of colour blindness, and each ramp is monotone in lightness, so that it also reads in grey. The
few-shot bounds differ in dash and marker too; the measured error below them is drawn in ink, and
the joint certificate in a darker shade of the certificate it sharpens. So
do lines of several tasks, whose colours come from one list in the order of the tasks.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

Metric = Literal["cdnv", "directional_cdnv"]

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'Liberation Sans', sans-serif"

FAINT = "2e"  # 18 % as two hexadecimal digits
MARKERS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x", "star")
ROLE_COLOURS = {
    "standard": "cdnv",
    "directional": "directional_cdnv",
    "measured": "ink",
    "few_shot_error": "ink",
    "bound": "certificate",
    "reference": "muted",
}


@dataclass(frozen=True)
class Look:
    """How a series that has a chart of its own is called and drawn there."""

    title: str
    role: str
    dash: str = "solid"
    marker: str = "circle"


LOOKS = {
    "cdnv": Look("CDNV", "standard", marker="square"),
    "directional_cdnv": Look("Directional CDNV", "directional"),
    "few_shot_error": Look("Measured", "measured"),
    "certificate": Look("Certificate", "certificate", marker="square"),
    "joint": Look("Joint", "joint", "dashdot", "cross"),
    "conditional": Look("Conditional", "conditional", "dashdot", "x"),
    "guarantee": Look("Guaranteed", "guarantee", "solid", "triangle-down"),
    "theorem_4_1": Look("Theorem 4.1", "theorem_4_1", "dash", "diamond"),
    "luthra_2025": Look("2025 bound", "luthra_2025", "dot", "triangle-up"),
}


@dataclass(frozen=True)
class Theme:
    """One set of colours, each a CSS hex string; ramps run from the lowest value to the highest."""

    page: str  # behind everything
    panel: str  # behind a chart
    sunken: str  # undefined heatmap cells, controls
    ink: str
    muted: str  # secondary text, axis labels
    rule: str  # borders and grid lines
    cdnv: str
    directional_cdnv: str
    certificate: str
    joint: str
    conditional: str
    guarantee: str
    theorem_4_1: str
    luthra_2025: str
    plain: str  # a series without a role of its own
    good: str
    warning: str
    alarm: str
    focus: str
    cdnv_ramp: tuple[str, ...]
    directional_cdnv_ramp: tuple[str, ...]
    cosine_ramp: tuple[str, ...]
    tasks: tuple[str, ...]
    methods: tuple[str, ...]  # they differ in lightness too

    def role(self, name: str) -> str:
        """Return the colour of a role that a series declares; that of "plain" if it is unknown."""
        colour = getattr(self, ROLE_COLOURS.get(name, name), self.plain)
        return colour if isinstance(colour, str) else self.plain

    def ramp(self, role: str) -> tuple[str, ...]:
        """Return the colours of a role's heatmap, lowest value first."""
        ramp: tuple[str, ...] = getattr(
            self, f"{ROLE_COLOURS.get(role, role)}_ramp", self.cosine_ramp
        )
        return ramp


LIGHT = Theme(
    page="#f3f4f1",
    panel="#ffffff",
    sunken="#eceeea",
    ink="#1a2026",
    muted="#59636e",
    rule="#dfe2dd",
    cdnv="#24639f",
    directional_cdnv="#bf4a12",
    certificate="#00786b",
    joint="#004d45",
    conditional="#3d7a1f",
    guarantee="#b3263e",
    theorem_4_1="#a24bb8",
    luthra_2025="#80680a",
    plain="#5c469f",
    good="#1f7350",
    warning="#8a5a00",
    alarm="#b3261e",
    focus="#0b63ce",
    cdnv_ramp=("#f2f7fb", "#c6ddf0", "#86b5dc", "#4486bf", "#1d5a97", "#0c2f5c"),
    directional_cdnv_ramp=("#fdf5ec", "#fbd9b4", "#f5ab6c", "#dd7430", "#a8430f", "#5c2005"),
    cosine_ramp=("#f6f4fb", "#dcd5f0", "#b5a8de", "#8774c4", "#5c469f", "#33226b"),
    tasks=("#0072b2", "#d55e00", "#00825f", "#a3418f", "#8a7400", "#332288", "#c2506b", "#5b6670"),
    methods=(
        "#0f62b4",
        "#c2500b",
        "#00786b",
        "#9c3d9e",
        "#77650a",
        "#1a2026",
        "#c22f6d",
        "#3b8fbf",
    ),
)
DARK = Theme(
    page="#0e1215",
    panel="#161b20",
    sunken="#20272d",
    ink="#e8ebed",
    muted="#9ba6b0",
    rule="#2b333a",
    cdnv="#6fb1ee",
    directional_cdnv="#ff9d5c",
    certificate="#3fc9b0",
    joint="#22917f",
    conditional="#8fce6a",
    guarantee="#ff7d8f",
    theorem_4_1="#d79be8",
    luthra_2025="#c9ae4e",
    plain="#afa3e4",
    good="#6fcf9f",
    warning="#f0c060",
    alarm="#ff8a80",
    focus="#8cc2ff",
    cdnv_ramp=("#122030", "#1b3c5f", "#2b659c", "#4e95d2", "#93c3ee", "#e6f2fc"),
    directional_cdnv_ramp=("#2a170c", "#5a2b10", "#974714", "#d87430", "#f9ad74", "#fdeadb"),
    cosine_ramp=("#1c1930", "#352d5e", "#554790", "#7f6ec2", "#afa3e4", "#ece8fc"),
    tasks=("#56b4e9", "#ff9d5c", "#3fc9a0", "#e08fd2", "#d8c44a", "#9a8cf0", "#ff8da1", "#b3bec8"),
    methods=(
        "#6fb1ee",
        "#ff9d5c",
        "#3fc9b0",
        "#dd9be4",
        "#d6bd55",
        "#e8ebed",
        "#ff8db4",
        "#a8dcff",
    ),
)


def _roles() -> Theme:
    """Return names of CSS custom properties where a theme has colours."""
    names: dict[str, Any] = {}
    for field in fields(Theme):
        value, name = getattr(LIGHT, field.name), f"--{field.name.replace('_', '-')}"
        several = isinstance(value, tuple)
        names[field.name] = tuple(f"{name}-{i}" for i in range(len(value))) if several else name
    return Theme(**names)


ROLES = _roles()
"""Stands for the theme that a page is shown in: `coloured` in base.js resolves its names."""


def faint(colour: str) -> str:
    """Return a colour, or the name of one, as the area behind its line."""
    if colour.startswith("--"):
        return f"{colour}/{FAINT}"
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return f"rgba({red}, {green}, {blue}, 0.18)"


def css_variables(theme: Theme) -> str:
    """Return the colours as CSS custom properties, `--page: #f3f4f1; ...`."""
    pairs: list[tuple[str, str]] = []
    for field in fields(theme):
        name, value = getattr(ROLES, field.name), getattr(theme, field.name)
        pairs += zip(name, value, strict=True) if isinstance(value, tuple) else [(name, value)]
    return " ".join(f"{name}: {value};" for name, value in pairs)
