"""The command line: configurations parse, and a short run leaves what it promises."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from dnc_lightning import HtmlReport, ProbeCallback
from dnc_lightning.reporting.records import Record, read_run
from recipes.cli import main
from recipes.demo import CONFIG, falls, falls_table
from recipes.simclr import SimCLR

# Lightning's command line calls a method that jsonargparse 4.49 deprecated.
pytestmark = pytest.mark.filterwarnings(
    "ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning"
)

CONFIGS = sorted(CONFIG.parent.glob("*.yaml"))


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    return tmp_path


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_configurations_parse(config, capsys):
    with pytest.raises(SystemExit, match="0"):
        main(SimCLR, ["fit", f"--config={config}", "--print_config"])
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["seed_everything"] == 0
    assert printed["trainer"]["max_steps"] > 0
    assert printed["trainer"]["default_root_dir"] == f"runs/{config.stem}"
    assert "probe" not in printed["probe"]  # linked from the data, never configured


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_no_configuration_reaches_the_network(config):
    loggers = yaml.safe_load(config.read_text())["trainer"]["logger"]
    wandb = [entry for entry in loggers if entry["class_path"].endswith("WandbLogger")]
    assert [entry["init_args"]["offline"] for entry in wandb] == [True]


def short_run(*extra: str):
    arguments = [
        "--trainer.max_steps=3",
        "--trainer.log_every_n_steps=1",
        "--trainer.enable_progress_bar=false",
        "--trainer.accelerator=cpu",
    ]
    small = ["--model.width=8", "--data.num_images=384", "--data.num_probe_images=960"]
    quiet = ["--trainer.logger=lightning.pytorch.loggers.CSVLogger", "--trainer.logger.save_dir=."]
    return main(SimCLR, ["fit", f"--config={CONFIG}", *arguments, *small, *quiet, *extra])


def test_a_short_run_probes_reports_and_saves(in_tmp):
    cli = short_run()
    probe = next(c for c in cli.trainer.callbacks if isinstance(c, ProbeCallback))
    report = next(c for c in cli.trainer.callbacks if isinstance(c, HtmlReport))
    records = read_run(probe.run_dir_).records
    assert [records[0].step, records[-1].step] == [0, 3]
    assert set(falls(records)) == {"colour", "shape", "size", "style"}
    assert report.path_.is_file()
    last = next(in_tmp.rglob("last.ckpt"))
    restored = SimCLR.load_from_checkpoint(last)
    for mine, saved in zip(cli.model.parameters(), restored.parameters(), strict=True):
        assert torch.equal(mine, saved)


def test_a_seed_makes_a_run_repeatable(in_tmp):
    first, again = short_run(), short_run()
    pairs = zip(first.model.parameters(), again.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_falls_compare_the_first_probe_with_the_last():
    def record(step: int, cdnv: float, directional: float) -> Record:
        scalars = {"probe/size/cdnv": cdnv, "probe/size/directional_cdnv": directional}
        return Record(step=step, epoch=0, time=0.0, scalars=scalars)

    records = [record(0, 8.0, 1.0), record(5, 9.0, 2.0), record(9, 4.0, 0.1)]
    cdnv, directional = falls(records)["size"]
    assert (cdnv.factor, directional.factor) == pytest.approx((2.0, 10.0))
    cells = [next(iter(column.cells)) for column in falls_table(records).columns]
    assert cells == ["size", "8 -> 4", "2.0 x", "1 -> 0.1", "10.0 x", "5.0"]
