"""Every block of code in README and the docs runs, and every command of theirs is one."""

from __future__ import annotations

import re
import shlex
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from dnc_lightning import ProbeCallback, cli
from tests.probe.test_token_probe import Language, text
from tests.reporting.conftest import write_run

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(language: str) -> Iterator[Any]:
    for path in PAGES:
        for number, found in enumerate(BLOCK.finditer(path.read_text()), start=1):
            if found[1] == language:
                yield pytest.param(path, found[2], id=f"{path.stem}-{number}")


class Module(LightningModule):
    """With the names of encoders that the pages speak of."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.ReLU(), nn.Linear(8, 6))
        self.projector = nn.Linear(6, 4)
        self.student_backbone = Layers()
        self.teacher_backbone = Layers()

    def training_step(self, batch: Any, _: int) -> Tensor:
        images = batch[0]
        return sum(  # type: ignore[return-value]
            encoder(images).square().mean()
            for encoder in (self.backbone, self.student_backbone, self.teacher_backbone)
        )

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.001)


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer2 = nn.Sequential(nn.Flatten(), nn.Linear(192, 8))
        self.last = nn.Linear(8, 6)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.layer2(images).relu())


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the blocks take for granted: data of the reader's, and a Trainer that ends soon."""
    import lightning.pytorch as pl
    import pandas as pd

    import dnc_lightning
    from dnc_lightning import instruments
    from dnc_lightning.instruments import DEFAULT

    torch.manual_seed(0)
    monkeypatch.chdir(tmp_path)
    images = torch.rand(400, 3, 8, 8)
    labels = torch.arange(400) % 4
    data = TensorDataset(images, labels)
    (tmp_path / "age_groups.json").write_text('{"0": "young", "1": "young", "2": "old"}')
    pd.DataFrame(
        {"age": [i % 3 for i in range(400)], "glasses": [i % 2 for i in range(400)]}
    ).to_csv(tmp_path / "attributes.csv", index=False)
    write_run(tmp_path / "runs" / "simclr" / "dnc" / "probe", records=3)

    class Trainer(pl.Trainer):
        def __init__(self, **options: Any) -> None:
            super().__init__(
                **options, max_steps=3, accelerator="cpu", logger=False,
                enable_progress_bar=False, enable_model_summary=False,
                default_root_dir=tmp_path,
            )  # fmt: skip

    class Animals(TensorDataset):
        classes = ("beaver", "dolphin", "maple", "oak")

    return {
        **{name: getattr(dnc_lightning, name) for name in dnc_lightning.__all__},
        "DEFAULT": DEFAULT,
        "instruments": instruments,
        "Trainer": Trainer,
        "module": Module(),
        "labelled_dataset": data,
        "unlabelled_dataset": data,
        "dataset": data,
        "cifar100": Animals(images, labels),
        "faces": data,
        "test_transform": None,
        "train_transform": lambda image: image + 0.1 * torch.rand_like(image),
        "features": torch.randn(400, 8) + labels[:, None],
        "labels": labels,
        "other_labels": torch.arange(400) // 200,
        "pd": pd,
        "probe": dnc_lightning.ProbeSet(data, per_class=50),
        "dnc_lightning": dnc_lightning,
        "loader": DataLoader(data, 8),
        "places": torch.rand(400, 2),
        "held_out_ids": text(40, 120),
        "tokenizer": SimpleNamespace(decode=lambda token: f"token {token}"),
        "loss": torch.zeros(()),
        "weight": 1.0,
    }


@pytest.mark.parametrize(("path", "code"), list(blocks("python")))
def test_every_block_of_python_runs(
    path: Path, code: str, names: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[ProbeCallback] = []
    plain = ProbeCallback.__init__

    def noted(self: ProbeCallback, *arguments: Any, **options: Any) -> None:
        plain(self, *arguments, **options)
        built.append(self)

    monkeypatch.setattr(ProbeCallback, "__init__", noted)
    exec(compile(code, str(path), "exec"), names)
    if "TokenProbe" in code:
        names["module"], names["loader"] = Language(), DataLoader(TensorDataset(text(64, 24)), 16)
    if built and "trainer" not in names:
        names["trainer"] = names["Trainer"](callbacks=[*built])
    if "trainer" in names:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of three steps on noise
            names["trainer"].fit(names["module"], names["loader"])
        assert all(callback.records_written_ for callback in built)


def commands() -> Iterator[Any]:
    for param in blocks("bash"):
        path, code = param.values
        for line in code.splitlines():
            if line.strip() and not line.startswith("#"):
                yield pytest.param(shlex.split(line, comments=True), id=f"{path.stem}: {line[:60]}")


@pytest.mark.parametrize("words", list(commands()))
def test_every_command_is_one(words: list[str]) -> None:
    program = words[0].removeprefix(".venv/bin/")
    if program == "dnc":
        assert callable(cli.parser().parse_args(words[1:]).command)
    elif program == "make":
        makefile = (ROOT / "Makefile").read_text()
        assert re.search(rf"^{words[1]}:", makefile, re.MULTILINE)
    elif program == "pip":
        (extra,) = re.findall(r"\[(\w+)\]", words[-1])
        assert f"\n{extra} = [" in (ROOT / "pyproject.toml").read_text()
    else:
        assert program == "python"
        assert words[1] == "-m"
        assert (ROOT / (words[2].replace(".", "/") + ".py")).exists()
        assert (ROOT / words[words.index("--config") + 1]).exists()
