"""What must work where the wheel alone is installed: run in an empty folder, without this clone.

`python smoke.py [EXTRA]` trains for a few steps with the three lines of README, and uses what the
extra brings; what it does not bring must be named by the error.
"""

import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from dnc_lightning import HtmlReport, ProbeCallback, ProbeSet, TerminalSummary, cli
from dnc_lightning.functional import class_geometry, directional_cdnv

HEAVY = ("plotly", "wandb", "timm", "rich", "transformers", "datasets", "lightly")


class Module(LightningModule):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Flatten(), nn.Linear(192, 8))

    def training_step(self, batch, _):
        return self.backbone(batch[0]).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)


def fit(*callbacks, loggers=()):
    labelled_dataset = TensorDataset(torch.rand(80, 3, 8, 8), torch.arange(80) % 4)
    probe = ProbeSet(labelled_dataset, per_class=20)
    watch = ProbeCallback(probe)
    trainer = Trainer(
        callbacks=[watch, *callbacks], max_steps=4, accelerator="cpu",
        logger=[CSVLogger("runs"), *loggers], enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False,
    )  # fmt: skip
    trainer.fit(Module(), DataLoader(labelled_dataset, 20))
    return Path(watch.run_dir_)


def refused(work, extra):
    said = "no error"
    try:
        work()
    except ModuleNotFoundError as error:
        said = str(error)
    assert f"dnc_lightning[{extra}]" in said, said


def main(extra):
    warnings.filterwarnings("ignore")
    if extra == "":
        brought = [name for name in HEAVY if find_spec(name) is not None]
        assert not brought, f"the core brings {brought}"
    folder = fit()
    assert (folder / "records.jsonl").read_text().count("\n") >= 3
    assert directional_cdnv(class_geometry(torch.randn(20, 4), torch.arange(20) % 2)).shape == (
        2,
        2,
    )

    if find_spec("plotly") and find_spec("jinja2"):
        page = fit(HtmlReport()) / "report.html"
        assert page.stat().st_size > 1_000_000
    else:
        refused(lambda: fit(HtmlReport()), "report")
    if find_spec("rich"):
        fit(TerminalSummary())
        assert cli.main(["show", str(folder)]) == 0
    if extra == "figures":
        assert cli.main(["figures", str(folder), "--out", "figures"]) == 0
        assert list(Path("figures").glob("*.pdf"))
    if extra == "wandb":
        from lightning.pytorch.loggers import WandbLogger

        fit(loggers=[WandbLogger(project="smoke", offline=True)])
        assert cli.main(["wandb-workspace", "--project", "smoke", "--dry-run"]) == 0
    if extra == "tensorboard":
        from lightning.pytorch.loggers import TensorBoardLogger

        fit(loggers=[TensorBoardLogger("board")])
        assert list(Path("board").rglob("events.*"))
    if extra == "zoo":
        words = ["evaluate", "torchvision:resnet18", "--random", "--data", "smoke_data:data"]
        Path("smoke_data.py").write_text(
            "import torch\nfrom torch.utils.data import TensorDataset\n"
            "data = TensorDataset(torch.rand(80, 3, 32, 32), torch.arange(80) % 4)\n"
        )
        sys.path.insert(0, ".")
        assert cli.main([*words, "--per-class", "20"]) == 0
    print("works")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
