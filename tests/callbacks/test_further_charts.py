"""How loggers are told of series that no special chart draws, before the first probe."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dnc_lightning.callbacks.tensorboard_charts import write_layout
from dnc_lightning.callbacks.wandb_charts import AXIS, define_axis
from dnc_lightning.series import Reference, Series

DECLARED = (
    Series(key="cdnv", title="CDNV", meaning="Drawn already.", group="Collapse", direction="lower"),
    Series(
        key="knn",
        title="Neighbours",
        meaning="Of twenty.",
        group="Further",
        direction="higher",
        references=(Reference("floor", "knn_floor"), Reference("chance", "{chance}")),
    ),
    Series(key="err/{m}", title="Error", meaning="m shots.", group="Further", direction="lower"),
    Series(key="spread", title="Spread", meaning="Neither is better.", group="Further"),
    Series(key="grid", title="Grid", meaning="An array.", group="Further", axes=("class", "class")),
)
HEADER = {
    "name": "probe",
    "encoders": ["backbone"],
    "tasks": {"label": ["a", "b"]},
    "prefixes": {"backbone": {"label": "probe/label"}},
    "shots": [1, 5],
    "series": [series.to_json() for series in DECLARED],
}


class Experiment:
    """Keeps what a logger is told."""

    def __init__(self) -> None:
        self.metrics: dict[str, dict[str, Any]] = {}
        self.layout: dict[str, dict[str, Any]] = {}

    def define_metric(self, name: str, **settings: Any) -> None:
        self.metrics[name] = settings

    def add_custom_scalars(self, layout: dict[str, dict[str, Any]]) -> None:
        self.layout = layout


@pytest.mark.parametrize(("prefix", "before"), [("", ""), ("run", "run-")])
def test_wandb_keeps_the_best_value_by_direction(prefix: str, before: str) -> None:
    experiment = Experiment()
    logger = SimpleNamespace(experiment=experiment, _prefix=prefix, LOGGER_JOIN_CHAR="-")
    define_axis(logger, "probe", HEADER)
    assert experiment.metrics == {
        AXIS: {},
        f"{before}probe/*": {"step_metric": AXIS},
        f"{before}probe/label/knn": {"step_metric": AXIS, "summary": "max,last"},
        f"{before}probe/label/err/1": {"step_metric": AXIS, "summary": "min,last"},
        f"{before}probe/label/err/5": {"step_metric": AXIS, "summary": "min,last"},
    }


def test_tensorboard_has_a_chart_a_series() -> None:
    experiment = Experiment()
    logger = SimpleNamespace(experiment=experiment, _prefix="", LOGGER_JOIN_CHAR="-")
    engine = SimpleNamespace(
        names=["backbone"], tasks={"label": None}, key=lambda encoder, task: f"probe/{task}"
    )
    probe = SimpleNamespace(engine_=engine, name="probe", shots=(1, 5))
    write_layout(logger, [probe], HEADER)
    charts = experiment.layout["probe"]
    assert charts["label: Neighbours"] == [
        "Multiline",
        [r"^probe/label/knn$", r"^probe/label/knn_floor$"],
    ]
    assert charts["label: Error"][1] == [r"^probe/label/err/1$", r"^probe/label/err/5$"]
    assert set(charts) == {
        "label: collapse",
        "label: error and bounds, m = 5",
        "label: Neighbours",
        "label: Error",
        "label: Spread",
    }
