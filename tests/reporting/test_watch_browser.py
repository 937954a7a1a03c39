"""The live view in headless Chromium: runs appear, move, and vanish without a reload."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.reporting.conftest import Page
from tests.reporting.test_watch import probe_again, serving

pytestmark = pytest.mark.browser


class Live(Page):
    """A page of a server."""

    def __init__(self, driver: Any, address: str, width: int = 1440) -> None:
        self.driver = driver
        self.resize(width)
        for log in ("browser", "performance"):
            driver.get_log(log)
        driver.get(address)
        self.wait("return document.documentElement.dataset.ready === 'true'")
        self.wait("return document.getElementById('connection').textContent === 'Live'")
        self.settle()
        self("window.stamp = 'not reloaded'")

    def same_visit(self) -> bool:
        return bool(self("return window.stamp === 'not reloaded'"))

    def errors(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser")]


@pytest.mark.parametrize("width", [1440, 390])
def test_the_overview_follows(
    browser: Any, tmp_path: Path, make_run: Callable[..., Path], width: int
) -> None:
    old = shutil.copytree(make_run(records=3), tmp_path / "runs" / "old")
    spare = make_run(records=2, header={"model": "MAE"})
    with serving(tmp_path / "runs") as address:
        page = Live(browser, address, width)
        page("localStorage.clear()")
        assert page("return document.documentElement.scrollWidth") <= width
        assert "1 run," in page.text(".summary")
        shutil.copytree(spare, tmp_path / "runs" / "new")
        page.wait("return document.querySelectorAll('#rows tr').length === 2")
        probe_again(old, 77_777)
        page.wait("return document.getElementById('rows').textContent.includes('77,777')")
        page.press("#filter", "mae")
        assert page("return document.querySelectorAll('#rows tr').length") == 1
        page("document.getElementById('filter').value = ''")
        page.press("#filter", " ")
        for button in page("return [...document.querySelectorAll('.pin')].map((b) => b.id)"):
            page(f"document.getElementById('{button}').click()")
        assert "run=" in str(page.find("#compare").get_attribute("href"))
        shutil.rmtree(old)
        page.wait("return document.querySelectorAll('#rows tr').length === 1")
        assert page.same_visit()
        assert page.errors() == []


def test_a_run_moves_and_keeps_what_was_chosen(
    browser: Any, tmp_path: Path, make_run: Callable[..., Path]
) -> None:
    tasks = {"colour": ["red", "yellow", "green"], "shape": ["circle", "square"]}
    folder = shutil.copytree(make_run(records=3, tasks=tasks), tmp_path / "runs" / "run")
    with serving(tmp_path / "runs") as address:
        overview = Live(browser, address)
        overview.find("#rows a").click()
        overview.wait("return document.documentElement.dataset.ready === 'true'")
        page = Live(browser, browser.current_url)
        page.choose("#task", "shape")
        page("scrollTo(0, 600)")
        probe_again(folder, 88_888)
        page.wait("return document.querySelector('.summary').textContent.includes('88,888')")
        page.wait("return document.getElementById('collapse').data[0].x.length === 4")
        assert page("return document.getElementById('task').value") == "shape"
        assert page("return scrollY") == 600
        shutil.rmtree(folder)
        page.wait("return document.getElementById('connection').textContent.includes('is gone')")
        assert page.same_visit()
        assert page.errors() == []


def test_the_first_probe_fills_an_empty_page(
    browser: Any, tmp_path: Path, make_run: Callable[..., Path]
) -> None:
    empty, full = make_run(records=0), make_run(records=2)
    folder = shutil.copytree(empty, tmp_path / "runs" / "run")
    with serving(tmp_path / "runs") as address:
        Live(browser, address).find("#rows a").click()
        page = Live(browser, browser.current_url)
        assert page.find(".empty").is_displayed()
        shutil.copytree(full, folder, dirs_exist_ok=True)
        page.wait("return document.getElementById('collapse').data?.[0].x.length === 2")
        assert not page.find(".empty").is_displayed()
        assert page.same_visit()
        assert page.errors() == []


TRAINING = """
import sys
import time
import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader, TensorDataset
from dnc_lightning import ProbeCallback, ProbeSet

class Module(LightningModule):
    def __init__(self):
        super().__init__()
        self.backbone = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 4))
    def training_step(self, batch, _):
        time.sleep(0.01)
        return self.backbone(batch[0]).square().mean()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)

data = TensorDataset(torch.rand(64, 3, 8, 8), torch.arange(64) % 4)
Trainer(
    max_steps=300, accelerator="cpu", logger=False, enable_checkpointing=False,
    enable_progress_bar=False, enable_model_summary=False, default_root_dir=sys.argv[1],
    callbacks=[ProbeCallback(ProbeSet(data, per_class=16))],
).fit(Module(), DataLoader(data, 4))
"""


def test_a_training_in_another_process_appears_and_moves(browser: Any, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    script = tmp_path / "training.py"
    script.write_text(TRAINING)
    with serving(tmp_path / "runs") as address:
        page = Live(browser, address)
        assert "No run lies here yet" in page.text("#none")
        words = [sys.executable, str(script), str(tmp_path / "runs" / "mine")]
        with subprocess.Popen(words, stderr=subprocess.DEVNULL) as one:
            page.wait("return document.querySelector('#rows .status.training') !== null", 60)
            assert one.wait(120) == 0
        page.wait("return document.getElementById('rows').textContent.includes('step 300')")
        page.wait("return document.querySelector('#rows .status.training') === null")
        assert page.same_visit()
        assert page.errors() == []
