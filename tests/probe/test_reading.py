"""Workers give the images that this process reads, leave nothing, and can be done without."""

from __future__ import annotations

import gc
import os
import random
import re
import signal
import subprocess
import sys
import threading
from multiprocessing import active_children, parent_process
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data._utils import signal_handling

from dnc_lightning import ProbeSet
from dnc_lightning.probe import bank as bank_module
from dnc_lightning.probe import reading
from dnc_lightning.probe.bank import ImageBank
from dnc_lightning.probe.items import UnreadableError
from dnc_lightning.probe.reading import Loading, Reader
from tests.probe.pictures import photographs

vision = pytest.importorskip("torchvision.datasets")
transforms = pytest.importorskip("torchvision.transforms")

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photographs(tmp_path_factory.mktemp("photographs"), each=12)


def augmented(image: Any) -> Tensor:
    """Draws from all three global states, and sums over more than threads begin to share."""
    crop = transforms.Compose([transforms.RandomResizedCrop((200, 190)), transforms.ToTensor()])
    pixels: Tensor = crop(image)
    return (pixels - pixels.mean()) * random.random() + np.random.rand()


def probe_of(folder: Path, **kwargs: Any) -> ProbeSet:
    return ProbeSet(vision.ImageFolder(str(folder)), 12, transform=augmented, seed=3, **kwargs)


def read(probe: ProbeSet, workers: int, positions: Any = None) -> ImageBank:
    positions = range(len(probe)) if positions is None else positions
    return ImageBank.build(probe.image, positions, CPU, progress=False, loading=Loading(workers))


def pixels(bank: ImageBank) -> Tensor:
    return torch.cat(list(bank.batches(5, CPU)))


def open_files() -> list[str]:
    gc.collect()  # torch's own queues refer to themselves
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:  # the folder itself
            continue
    return [name for name in found if not name.startswith("socket")]


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_images_for_any_number_of_workers_and_threads(folder: Path, threads: int) -> None:
    expected = pixels(read(probe_of(folder), 0))
    torch.set_num_threads(threads)
    try:
        states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
        for workers in (0, 1, 2):
            bank = read(probe_of(folder), workers)
            assert torch.equal(pixels(bank), expected)
            assert bank.loading.notes == []
        assert torch.equal(states[0], torch.get_rng_state())
        assert states[1:] == (random.getstate(), np.random.get_state()[1].tolist())
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(1)


def test_progress_has_a_rate(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    probe = probe_of(folder)
    ImageBank.build(probe.image, range(24), CPU, loading=Loading(1))
    assert re.search(r"Probe: decoding images: .*\?? ?images/s", capsys.readouterr().err)
    ImageBank.build(probe.image, range(24), CPU, progress=False)
    assert capsys.readouterr().err == ""


def test_streaming_gives_the_same_images(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = pixels(read(probe_of(folder), 0))
    monkeypatch.setattr(bank_module, "free_host_memory", lambda: 10.0)
    for workers in (0, 2):
        bank = read(probe_of(folder), workers)
        assert bank.storage == "stream"
        (note,) = bank.loading.notes
        assert f"s with {workers} workers" in note
        assert "24 probe images take 0.00274 GB" in note
        for _ in range(2):
            assert torch.equal(pixels(bank), expected)
        batches = bank.batches(3, CPU)
        next(batches)
        del batches
        assert active_children() == []


def test_workers_and_their_files_are_gone(folder: Path) -> None:
    probe = probe_of(folder)
    read(probe, 2)
    threads, files = set(threading.enumerate()), sorted(open_files())
    for _ in range(3):
        read(probe, 2)
    assert active_children() == []
    # Others' threads, such as those of progress bars and loggers, may begin meanwhile.
    left = [t for t in set(threading.enumerate()) - threads if "QueueFeeder" in t.name]
    for thread in left:
        thread.join(5)
    assert not any(thread.is_alive() for thread in left)
    assert sorted(open_files()) == files


class Wrapped:
    """A data set whose items go through a function of image, label and index."""

    def __init__(self, folder: Path, change: Any) -> None:
        self.inner = vision.ImageFolder(str(folder), transform=transforms.ToTensor())
        self.targets, self.change = self.inner.targets, change

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> Any:
        image, label = self.inner[index]
        return self.change(image, index), label


def test_an_error_in_a_worker_is_that_of_this_process(folder: Path) -> None:
    def fail(image: Tensor, index: int) -> Tensor:
        if index == 17:
            raise OSError("cut short")
        return image

    probe = ProbeSet(Wrapped(folder, fail), 12, labels=[i // 12 for i in range(24)])
    place = probe.indices.tolist().index(17)
    for workers in (0, 2):
        with pytest.raises(UnreadableError, match=r"sample 17 .*could not.*cut short") as caught:
            read(probe, workers)
        assert isinstance(caught.value.__cause__, OSError)
        assert active_children() == []
    left = [place for place in range(24) if probe.indices[place] != 17]
    assert read(probe, 2, left).images is not None
    assert place not in left


@pytest.mark.parametrize("handled", [True, False])
def test_a_worker_that_is_killed_is_done_without(
    folder: Path, handled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(image: Tensor, index: int) -> Tensor:
        if index == 17 and parent_process() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return image

    probe = ProbeSet(Wrapped(folder, die), 12)
    monkeypatch.setattr(reading, "PATIENCE", 3.0)
    before = signal.getsignal(signal.SIGCHLD)
    if not handled:  # as after a fit, whose Trainer puts back the handlers that it found
        monkeypatch.setattr(signal_handling, "_SIGCHLD_handler_set", True)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    bank = read(probe, 2)
    signal.signal(signal.SIGCHLD, before)
    assert torch.equal(pixels(bank), pixels(read(probe, 0)))
    (note,) = bank.loading.notes
    assert "read without the 2 workers: RuntimeError" in note
    assert "DataLoader worker" in note
    assert active_children() == []


@pytest.mark.slow
def test_a_worker_that_hangs_is_done_without(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(image: Tensor, index: int) -> Tensor:
        if index == 17 and parent_process() is not None:
            threading.Event().wait(60)
        return image

    monkeypatch.setattr(reading, "PATIENCE", 3.0)
    bank = read(ProbeSet(Wrapped(folder, hang), 12), 1)
    assert len(pixels(bank)) == 24
    (note,) = bank.loading.notes
    assert "timed out" in note


def test_workers_that_read_otherwise_are_not_believed(folder: Path) -> None:
    """A generator of the data set's own goes on in each worker from where it was."""
    generator = np.random.default_rng(0)

    def noisy(image: Tensor, index: int) -> Tensor:
        return image + generator.random()

    bank = read(ProbeSet(Wrapped(folder, noisy), 12), 2)
    (note,) = bank.loading.notes
    assert "sample 0 of the probe otherwise than this process does" in note
    assert bank.loading.workers == 0


SPAWN = """
import multiprocessing, sys, torch
from dnc_lightning import ProbeSet
from dnc_lightning.probe.bank import ImageBank
from dnc_lightning.probe.reading import Loading

class Local:
    def __init__(self): self.x = torch.arange(60.0).view(20, 3, 1, 1).expand(20, 3, 2, 2) / 7
    def __len__(self): return 20
    def __getitem__(self, i): return self.x[i] + torch.rand(1), i % 2

def build(guarded):
    multiprocessing.set_start_method("spawn", force=True)
    probe = ProbeSet(Local(), 10, **({} if guarded else {"transform": lambda x: x}))
    banks = [ImageBank.build(probe.image, range(20), torch.device("cpu"), progress=False,
                             loading=Loading(k)) for k in (0, 2)]
    (a,), (b,) = (list(bank.batches(99, torch.device("cpu"))) for bank in banks)
    assert torch.equal(a, b)
    print("NOTES", banks[1].loading.notes, multiprocessing.active_children())
"""


def run(script: str, path: Path) -> str:
    path.write_text(script)
    done = subprocess.run(
        [sys.executable, str(path)],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONWARNINGS": "error"},
    )
    assert "Exception ignored" not in done.stderr
    assert "Traceback" not in done.stderr or "bootstrapping" in done.stderr, done.stderr
    return done.stdout


@pytest.mark.slow
def test_spawned_workers_and_what_cannot_be_sent_to_them(tmp_path: Path) -> None:
    guard = "if __name__ == '__main__': build({})"
    assert "NOTES [] []" in run(SPAWN + guard.format(True), tmp_path / "a.py")
    out = run(SPAWN + guard.format(False), tmp_path / "b.py")
    assert "without the 2 workers" in out
    assert "pickle" in out
    assert out.endswith("[]\n")


@pytest.mark.slow
def test_a_script_that_is_not_written_for_spawning_runs_once(tmp_path: Path) -> None:
    out = run(SPAWN + "build(True)", tmp_path / "c.py")
    assert out.count("NOTES") == 1
    assert "exited unexpectedly" in out


def test_how_many_workers_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_cores", lambda: 12)
    monkeypatch.setattr(reading, "get_start_method", lambda: "fork")
    slow, quick = 100.0, 0.1
    assert Loading(None).chosen(slow) == 12
    assert Loading(None, neighbours=4).chosen(slow) == 3
    assert Loading(None, neighbours=8).chosen(slow) == 0  # one core each is this process's own
    assert Loading(None, most=5).chosen(slow) == 5
    assert Loading(None, most=0).chosen(slow) == 0
    assert Loading(None).chosen(quick) == Loading(None, most=5).chosen(quick) == 0
    assert Loading(3, most=5).chosen(quick) == 3
    assert Loading(0, most=5).chosen(slow) == 0
    monkeypatch.setattr(reading, "_cores", lambda: 99)
    assert Loading(None).chosen(slow) == reading.MOST_WORKERS
    monkeypatch.setattr(reading, "get_start_method", lambda: "spawn")
    assert Loading(None).chosen(slow) == 0
    assert Loading(None, most=5).chosen(slow) == 5


def test_images_in_memory_need_no_workers() -> None:
    images = torch.rand(500, 3, 32, 32)
    probe = ProbeSet([(image, i % 2) for i, image in enumerate(images)], 250)
    reader = Reader(probe.image, Loading(None, most=2))
    assert sum(1 for _ in reader.images(range(500))) == 500
    assert reader.workers == 0
