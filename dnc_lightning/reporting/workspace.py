"""A W&B workspace with the sections of the report."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from dnc_lightning.reporting.optional import require
from dnc_lightning.reporting.read.few_shot import TRACKED
from dnc_lightning.reporting.read.places import further_keys
from dnc_lightning.reporting.theme import LIGHT, LOOKS

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Workspace

AXIS = "trainer/global_step"
SHOTS = 5


def workspace(
    project: str,
    entity: str,
    name: str = "Directional neural collapse",
    prefix: str = "probe",
    *,
    tasks: tuple[str, ...] = ("label",),
    shots: int = SHOTS,
    header: Mapping[str, Any] = MappingProxyType({}),
) -> Workspace:
    """Lay out a project: collapse, few-shot certificates, pairs, orthogonality, cost.

    With the header of a run each group of series that those do not show has a section too.

    Args:
        project: W&B project.
        entity: User or team.
        name: Of the view.
        prefix: First part of the logged keys, `ProbeCallback(name=...)`.
        tasks: Names of the tasks, with the encoder before them if there are several.
        shots: Labelled samples per class of the errors that are shown.
        header: Of a run of the project, for the series that it declares.

    Returns:
        The layout, not saved.

    Raises:
        ModuleNotFoundError: If wandb-workspaces is not installed; the message names the extra.
    """
    require("wandb_workspaces")
    import wandb_workspaces.workspaces as ws

    # Its own names are not declared, so a type checker does not see them.
    wr: Any = import_module("wandb_workspaces.reports.v2")

    def over_training(title: str, keys: dict[str, tuple[str, str]], **more: Any) -> Any:
        return wr.LinePlot(
            title=title,
            x=AXIS,
            y=list(keys),
            log_x=True,
            log_y=True,
            title_x="optimizer steps",
            line_titles={key: words for key, (words, _) in keys.items()},
            line_colors={key: colour for key, (_, colour) in keys.items()},
            smoothing_type="none",
            **more,
        )

    collapse, errors, media = [], [], []
    for task in tasks:
        key = f"{prefix}/{task}"
        lines = {
            f"{key}/directional_cdnv": ("Directional CDNV", LIGHT.directional_cdnv),
            f"{key}/cdnv": ("CDNV", LIGHT.cdnv),
        }
        collapse.append(over_training(f"{task}: collapse", lines))
        series = {f"{key}/{s}/{shots}": (LOOKS[s].title, LIGHT.role(s)) for s in TRACKED}
        title = f"{task}: error and bounds, m = {shots}"
        errors.append(over_training(title, series, range_y=(None, 1.0)))
        charts = [f"{key}/charts/directional_cdnv", f"{key}/charts/cdnv"]
        media.append(wr.MediaBrowser(title=f"{task}: pairs", media_keys=charts))
    across = wr.LinePlot(
        title="Mean |cos| between tasks",
        x=AXIS,
        metric_regex=f"{prefix}/orthogonality/.*/abs_cos$",
        log_x=True,
    )
    cost = [
        wr.LinePlot(title="Overhead", x=AXIS, y=[f"{prefix}/overhead"]),
        wr.LinePlot(title="Seconds per probe", x=AXIS, y=[f"{prefix}/seconds"]),
    ]
    sections: dict[str, list[Any]] = {
        "Decision-axis collapse": collapse,
        "Few-shot certificates": errors,
        "Pairs of classes": media,
        "Orthogonality of tasks": [across],
        "Cost of the probe": cost,
    }
    for declared, place, keys in further_keys(header):
        references = [place.prefix + r.key for r in declared.references if r.key is not None]
        panel = wr.LinePlot(
            title=f"{place.task}: {declared.title}" if place.task else declared.title,
            x=AXIS,
            y=[*keys, *references],
            log_x=True,
            log_y=declared.scale == "log",
            title_x="optimizer steps",
            title_y=declared.unit or None,
            range_y=(declared.low, declared.high) if declared.scale == "linear" else (None, None),
            smoothing_type="none",
        )
        sections.setdefault(declared.group, []).append(panel)
    return ws.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=[ws.Section(name=n, panels=p, is_open=True) for n, p in sections.items()],
        settings=ws.WorkspaceSettings(x_axis=AXIS, smoothing_type="none"),
    )


def workspace_json(layout: Workspace) -> str:
    """Return a layout as JSON, as W&B stores it."""
    stored = layout._to_model().model_dump(by_alias=True, exclude_none=True, mode="json")
    return json.dumps(stored, indent=2)


def logged_in() -> bool:
    """Return whether this machine has a key for W&B and is not told to stay offline."""
    require("wandb_workspaces")
    import wandb

    if os.environ.get("WANDB_MODE", "online") != "online":
        return False
    try:
        return bool(wandb.login(prompt=False))
    except TypeError:  # before 0.31
        return bool(wandb.api.api_key)
