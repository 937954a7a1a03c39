"""Training on labels of one task loses the others; training without labels does not."""

from __future__ import annotations

from pathlib import Path

import pytest
from lightning import LightningModule

from dnc_lightning import read_run
from dnc_lightning.reporting.read.narrowing import narrowings
from recipes.cli import main
from recipes.simclr import SimCLR
from recipes.supervised import Supervised


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*[Cc]ollapse|.*pairs of classes")
@pytest.mark.parametrize(
    ("module", "config", "told"),
    [(Supervised, "supervised_factors", ["shape"]), (SimCLR, "simclr_factors", [])],
)
def test_over_collapse(
    module: type[LightningModule], config: str, told: list[str], tmp_path: Path
) -> None:
    run = main(module, [
        "fit", f"--config=recipes/configs/{config}.yaml", "--trainer.max_steps=400",
        "--trainer.accelerator=cpu", "--trainer.logger=false",
        f"--trainer.default_root_dir={tmp_path}", "--trainer.enable_progress_bar=false",
        '--probe.metrics=["collapse","few_shot"]',
    ])  # fmt: skip
    probe = next(c for c in run.trainer.callbacks if type(c).__name__ == "ProbeCallback")
    assert [found.task for found in narrowings(read_run(probe.run_dir_))] == told
