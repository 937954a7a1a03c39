"""Read a probe set: a few images to try encoders on, and this process's part of it."""

from __future__ import annotations

from dataclasses import replace

import torch

from dnc_lightning.probe.bank import ImageBank
from dnc_lightning.probe.calibration import CALIBRATION_IMAGES
from dnc_lightning.probe.items import sample_name
from dnc_lightning.probe.probe_set import ProbeSet
from dnc_lightning.probe.reading import Loading
from dnc_lightning.probe.runtime import Runtime

NAMED = 5
"""Samples at most that a note names."""


def read_trial(probe: ProbeSet, size: int) -> ImageBank:
    """Read up to `size` images to try encoders on, the same on every process.

    Raises:
        ValueError: a sample that is no image like the others, or cannot be read and may not be
            skipped; none of them can be read.
    """
    trial = ImageBank.build(
        probe.image,
        range(min(size, len(probe))),
        torch.device("cpu"),
        progress=False,
        skip=probe.on_error == "skip",
    )
    if not trial.positions:
        first = next(iter(trial.failed.values()))
        raise ValueError(f"none of the first {len(trial.failed)} probe images can be read: {first}")
    return trial


def calibration_bank(probe: ProbeSet, runtime: Runtime, bank: ImageBank) -> ImageBank:
    """The images of BatchNorm calibration, on every process alike: the first ones of the probe."""
    if runtime.processes.shards == 1:
        return bank.first(CALIBRATION_IMAGES)
    positions = range(min(CALIBRATION_IMAGES, len(probe)))
    first = runtime.processes.rank == 0
    return ImageBank.build(
        probe.image, positions, runtime.device, progress=first, loading=bank.loading
    )


def read_shard(probe: ProbeSet, runtime: Runtime) -> tuple[ImageBank, tuple[str, ...]]:
    """Decode this process's images, and leave out of `probe` what any process could not read.

    Returns:
        The bank, with positions in what is left of the probe, and a sentence if anything is not.

    Raises:
        ValueError: a sample that is no image like the others, or cannot be read and may not be
            skipped; a class that keeps fewer than 2 samples.
    """
    skip = probe.on_error == "skip"
    bank = ImageBank.build(
        probe.image,
        range(len(probe))[runtime.processes.own],
        runtime.device,
        progress=runtime.processes.rank == 0,
        loading=Loading(probe.num_workers, runtime.loader_workers, runtime.neighbours),
        skip=skip,
    )
    if skip:
        lost = torch.zeros(len(probe), dtype=torch.bool)
        lost[list(bank.failed)] = True
        lost = runtime.processes.any(lost)
        moved = (~lost).cumsum(0) - 1
        bank = replace(bank, positions=moved[list(bank.positions)].tolist(), failed={})
        probe.leave_out(lost)
    if not (skipped := probe.skipped):
        return bank, ()
    names = ", ".join(sample_name(probe.dataset, index) for index in skipped[:NAMED])
    return bank, (
        f"{len(skipped)} samples of the probe's data set could not be read and are left out: "
        f"{names}{' ...' if len(skipped) > NAMED else ''}.",
    )
