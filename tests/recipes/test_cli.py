"""The command line: configurations parse, and a short run leaves what it promises."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
import torch
import yaml

from dnc_lightning import HtmlReport, ProbeCallback
from dnc_lightning.records.store import read_run
from recipes.base import Recipe
from recipes.cli import main
from recipes.demo import CONFIG, places
from recipes.simclr import SimCLR
from tests.recipes.test_configs import module_of

# Lightning's command line calls a method that jsonargparse 4.49 deprecated.
pytestmark = pytest.mark.filterwarnings(
    "ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning"
)

CONFIGS = sorted(CONFIG.parent.glob("*.yaml"))


def recipe_of(config: Path) -> type[Recipe]:
    """The recipe whose module the name of a configuration begins with."""
    module = import_module(f"recipes.{module_of(config)}")
    (recipe,) = (
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Recipe)
        and value.__module__ == module.__name__
    )
    return recipe


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    return tmp_path


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_configurations_parse(config, capsys):
    with pytest.raises(SystemExit, match="0"):
        main(recipe_of(config), ["fit", f"--config={config}", "--print_config"])
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["seed_everything"] == 0
    assert printed["trainer"]["max_steps"] > 0 or printed["trainer"]["max_epochs"] > 0
    assert printed["trainer"]["default_root_dir"] == f"runs/{config.stem}"
    assert "probe" not in printed["probe"]  # linked from the data, never configured


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_no_configuration_reaches_the_network(config):
    # Without any, Lightning takes one that writes files.
    loggers = yaml.safe_load(config.read_text())["trainer"].get("logger", [])
    wandb = [entry for entry in loggers if entry["class_path"].endswith("WandbLogger")]
    assert all(entry["init_args"]["offline"] is True for entry in wandb)


@pytest.mark.parametrize(
    "unknown", ["--model.width=8", "--model.views.zoom=2", "--data.images=96", "--chekpoint=1"]
)
def test_unknown_keys_fail(unknown, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(SimCLR, ["fit", f"--config={CONFIG}", unknown])
    assert unknown.split("=")[0].split(".")[-1].lstrip("-") in capsys.readouterr().err


def short_run(*extra: str, config: Path = CONFIG):
    arguments = [
        "--trainer.max_steps=3",
        "--trainer.log_every_n_steps=1",
        "--trainer.enable_progress_bar=false",
        "--trainer.accelerator=cpu",
    ]
    small = ["--data.num_images=384", "--data.num_probe_images=960", "--data.batch_size=32"]
    quiet = ["--trainer.logger=lightning.pytorch.loggers.CSVLogger", "--trainer.logger.save_dir=."]
    return main(
        recipe_of(config), ["fit", f"--config={config}", *arguments, *small, *quiet, *extra]
    )


QUICK = ("--data.probe_per_class=8", '--probe.metrics=["collapse"]')
SMALL = "--model.backbone=small_resnet8"


def test_a_short_run_probes_reports_and_saves(in_tmp, capsys):
    cli = short_run(SMALL)
    printed = capsys.readouterr().out
    assert all(task in printed for task in ("colour", "shape", "size", "style"))
    probe = next(c for c in cli.trainer.callbacks if isinstance(c, ProbeCallback))
    report = next(c for c in cli.trainer.callbacks if isinstance(c, HtmlReport))
    records = read_run(probe.run_dir_).records
    assert [records[0].step, records[-1].step] == [0, 3]
    assert report.path_.is_file()
    assert [line.split()[-1] for line in places(cli)] == [str(report.path_), str(probe.run_dir_)]
    last = next(in_tmp.rglob("last.ckpt"))
    restored = SimCLR.load_from_checkpoint(last)
    for mine, saved in zip(cli.model.parameters(), restored.parameters(), strict=True):
        assert torch.equal(mine, saved)


def test_a_seed_makes_a_run_repeatable(in_tmp):
    first, again = (short_run(SMALL, *QUICK) for _ in range(2))
    pairs = zip(first.model.parameters(), again.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


FACTORS = [config for config in CONFIGS if config.stem.endswith("_factors")]


@pytest.mark.parametrize("config", FACTORS, ids=lambda path: path.stem)
def test_a_run_from_the_command_line_is_stored_and_rebuilt(in_tmp, config):
    """Its arguments are plain data in the checkpoint, not the values that Python code passes."""
    cli = short_run("--trainer.max_steps=1", *QUICK, config=config)
    last = next(in_tmp.rglob("last.ckpt"))
    restored = recipe_of(config).load_from_checkpoint(last, weights_only=True)
    for key, value in cli.model.state_dict().items():
        assert torch.equal(value, restored.state_dict()[key]), key
    steps = {path.stem for path in last.parent.glob("step-*.ckpt")}
    assert steps == {"step-000000", "step-000001"}
