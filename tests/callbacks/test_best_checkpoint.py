"""Each kept checkpoint has the score of exactly the weights inside it."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

from dnc_lightning import BestProbeCheckpoint, LogSpacedCheckpoint, ProbeCallback
from dnc_lightning.functional import cdnv, class_geometry, pair_mean
from dnc_lightning.reporting import read_run
from tests.callbacks.fits import Manual, fit, probe, records
from tests.callbacks.modules import BackboneModule, Clean, Floats, in_flavour

KEY = "probe/label/cdnv"
NAME = re.compile(r"probe-label-cdnv=([-+.e\d]+)-step=(\d{6})\.ckpt")
MIDWAY = "ignore:You're resuming from a checkpoint that ended before the epoch ended"
pytestmark = pytest.mark.filterwarnings(MIDWAY)


def wander(module: Any, images: torch.Tensor) -> torch.Tensor:
    """Features whose CDNV at each step is known, up and down, however the weights move."""
    level = [3.0, 1.0, 2.0, 0.5, 4.0, 0.7, 0.6, 5.0, 0.9, 0.4, 6.0, 7.0, 8.0][module.step]
    bright = images.mean((1, 2, 3))[:, None]
    return torch.cat([bright, level * 0.1 * images[:, 0, 0, :3]], 1)


class Wanders(BackboneModule):
    """Knows its step: after a resumption too."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("done", torch.zeros((), dtype=torch.long))

    @property
    def step(self) -> int:
        return int(self.done)

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        super().optimizer_step(*arguments, **options)
        self.done += 1


def wandering(**options: Any) -> ProbeCallback:
    return probe(**{"encoder": wander, "every_n_train_steps": 1, **options})


def scores(callback: ProbeCallback, key: str = KEY) -> dict[int, float]:
    return {record.step: record.scalars[key] for record in records(callback)}


def kept(folder: Path) -> dict[int, float]:
    """Step -> score as the names of the files say, after looking at the weights inside."""
    found = {}
    for path in folder.glob("probe-label-cdnv*.ckpt"):
        match = NAME.fullmatch(path.name)
        assert match is not None, path.name
        step = int(match[2])
        content = torch.load(path, weights_only=True)
        assert int(content["state_dict"]["done"]) == step
        found[step] = float(match[1])
    return found


def best(values: dict[int, float], k: int, *, largest: bool = False) -> dict[int, float]:
    finite = {step: value for step, value in values.items() if math.isfinite(value)}
    order = sorted(finite, key=lambda step: finite[step], reverse=largest)
    return {step: pytest.approx(finite[step], rel=1e-5) for step in order[:k]}


@pytest.mark.parametrize("schedule", [{}, {"every_n_train_steps": 5}, {"every_n_epochs": 1}])
def test_the_score_is_that_of_the_weights_in_the_file(
    schedule: dict[str, Any], tmp_path: Path
) -> None:
    """Measured again from the file, in a way of its own."""
    callback, keeps = probe(**schedule), BestProbeCheckpoint(KEY, save_top_k=-1)
    fit(tmp_path, callback, keeps, max_steps=50)
    assert len(keeps.best_k_models) == len(records(callback))
    data, index = Clean(), callback.probe.indices
    for path, score in keeps.best_k_models.items():
        module = BackboneModule()
        state = torch.load(path, weights_only=True)["state_dict"]
        if int(state["backbone.1.num_batches_tracked"]) < 44:
            continue  # calibrated: the file's own statistics are not those that were scored
        module.load_state_dict(state)
        with torch.no_grad():
            features = module.eval().backbone(data.x[index] / 255)
        again = pair_mean(cdnv(class_geometry(features, data.targets[index])))
        assert float(score) == pytest.approx(float(again), rel=1e-4)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("probe_first", [True, False])
def test_the_best_are_kept_and_the_worse_deleted(
    k: int, mode: str, probe_first: bool, tmp_path: Path
) -> None:
    callback = wandering()
    keeps = BestProbeCheckpoint(KEY, mode, save_top_k=k)
    callbacks = [callback, keeps] if probe_first else [keeps, callback]
    fit(tmp_path, *callbacks, module=Wanders(), max_steps=12)
    expected = best(scores(callback), k, largest=mode == "max")
    assert kept(tmp_path / "checkpoints") == expected
    assert keeps.best_model_score is not None
    assert float(keeps.best_model_score) == next(iter(expected.values()))


def test_probes_between_steps_of_its_own_and_at_the_end(tmp_path: Path) -> None:
    callback, keeps = wandering(every_n_train_steps=5), BestProbeCheckpoint(KEY, save_top_k=-1)
    fit(tmp_path, callback, keeps, module=Wanders(), max_steps=9)
    assert list(scores(callback)) == [0, 5, 9]
    assert kept(tmp_path / "checkpoints") == best(scores(callback), 3)
    assert Path(keeps.best_model_path).name.endswith("step=000009.ckpt")


def test_the_last_step_is_saved_once_though_it_is_probed_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[str] = []
    save = pl.Trainer.save_checkpoint

    def note(trainer: pl.Trainer, path: Any, *rest: Any) -> None:
        saved.append(Path(path).name[-8:-5])
        save(trainer, path, *rest)

    monkeypatch.setattr(pl.Trainer, "save_checkpoint", note)
    fit(
        tmp_path,
        wandering(),
        BestProbeCheckpoint(KEY, save_top_k=-1),
        max_steps=3,
        module=Wanders(),
    )
    assert saved == ["000", "001", "002", "003"]


@pytest.mark.filterwarnings("ignore:probe. probe/label. .* feature vectors hold nan")
@pytest.mark.parametrize("mode", ["min", "max"])
def test_what_is_not_finite_is_never_saved(mode: str, tmp_path: Path) -> None:
    def broken(module: Any, images: torch.Tensor) -> torch.Tensor:
        return wander(module, images) * (torch.nan if module.step in (0, 2, 4) else 1)

    callback, keeps = wandering(encoder=broken), BestProbeCheckpoint(KEY, mode, save_top_k=3)
    fit(tmp_path, callback, keeps, max_steps=4, module=Wanders())
    assert sorted(kept(tmp_path / "checkpoints")) == [1, 3]
    assert all(math.isfinite(float(s)) for s in keeps.best_k_models.values())


def test_accumulated_gradients_and_epoch_ends(tmp_path: Path) -> None:
    callback, keeps = wandering(), BestProbeCheckpoint(KEY, save_top_k=2)
    fit(tmp_path, callback, keeps, module=Wanders(), max_epochs=3, accumulate_grad_batches=2)
    assert kept(tmp_path / "checkpoints") == best(scores(callback), 2)
    callback, keeps = (
        wandering(every_n_train_steps=None, every_n_epochs=1),
        BestProbeCheckpoint(KEY),
    )
    fit(tmp_path / "epochs", callback, keeps, module=Wanders(), max_epochs=3)
    assert kept(tmp_path / "epochs" / "checkpoints") == best(scores(callback), 1)


@pytest.mark.filterwarnings("ignore:probe. Steps are batches")
def test_with_an_optimizer_that_lightning_does_not_see(tmp_path: Path) -> None:
    callback, keeps = probe(), BestProbeCheckpoint(KEY, save_top_k=-1)
    fit(tmp_path, callback, keeps, module=Manual("raw"), max_epochs=2)
    found = sorted(int(path[-11:-5]) for path in keeps.best_k_models)
    assert found == list(scores(callback))


@pytest.mark.parametrize("other_first", [True, False])
@pytest.mark.parametrize("cut", [2, 4, 7, 9])
def test_a_resumed_run_goes_on_comparing(cut: int, other_first: bool, tmp_path: Path) -> None:
    """From a checkpoint of another callback, saved before or after this one has judged its step."""

    def run(folder: Path, steps: int, ckpt: Path | None = None) -> ProbeCallback:
        callback = wandering()
        others = [LogSpacedCheckpoint(folder / "all"), BestProbeCheckpoint(KEY, save_top_k=2)]
        others[0].schedule = EveryStep()  # type: ignore[attr-defined]
        fit(
            folder,
            callback,
            *(others if other_first else others[::-1]),
            module=Wanders(),
            max_steps=steps,
            ckpt_path=ckpt,
        )
        return callback

    run(tmp_path, 10)
    resumed = run(tmp_path, 12, tmp_path / "all" / f"step-{cut:06d}.ckpt")
    assert set(best(scores(resumed), 2)) == {3, 9}
    found = kept(tmp_path / "checkpoints")
    # Files that the first part had made after the cut, and the second made again, are the same.
    assert {step: found[step] for step in (3, 9)} == best(scores(resumed), 2)


class EveryStep:
    def next_after(self, step: int) -> int:
        return step + 1


def test_a_resumed_run_keeps_its_best_and_its_folder(tmp_path: Path) -> None:
    def logger() -> Any:
        return pl.loggers.CSVLogger(tmp_path, name="csv")

    first = BestProbeCheckpoint(KEY)
    trainer = fit(tmp_path, wandering(), first, module=Wanders(), max_steps=6, logger=logger())
    trainer.save_checkpoint(tmp_path / "end.ckpt")
    second = BestProbeCheckpoint(KEY)
    fit(
        tmp_path,
        wandering(),
        second,
        module=Wanders(),
        max_steps=8,
        logger=logger(),
        ckpt_path=tmp_path / "end.ckpt",
    )
    # Step 3 stays the best over steps 7 and 8 of the second part.
    assert second.best_model_path == first.best_model_path
    assert list(kept(tmp_path / "csv" / "version_0" / "checkpoints")) == [3]


def test_lightning_finds_the_best(tmp_path: Path) -> None:
    class Tested(Wanders):
        def test_step(self, batch: Any) -> None:
            self.log("seen", float(self.done))

    module = Tested()
    trainer = fit(tmp_path, wandering(), BestProbeCheckpoint(KEY), module=module, max_steps=8)
    (result,) = trainer.test(module, DataLoader(Floats(12), 12), ckpt_path="best", verbose=False)
    assert result["seen"] == 3


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"mode": "best"}, 'mode must be "min" or "max", got \'best\''),
        ({"save_top_k": 0}, "at least 1, or -1 for all, got 0"),
        ({"save_top_k": 1.5}, "got 1.5"),
    ],
)
def test_arguments_that_no_run_can_use(arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        BestProbeCheckpoint(**arguments)


def test_mistakes_show_before_the_first_step(tmp_path: Path) -> None:
    module = BackboneModule()
    with pytest.raises(ValueError, match="none: add ProbeCallback"):
        fit(tmp_path, BestProbeCheckpoint(KEY), module=module, max_steps=2)
    with pytest.raises(ValueError, match=r"'probe/lable/cdnv'.*Near keys: probe/label/cdnv,"):
        fit(tmp_path, probe(), BestProbeCheckpoint("probe/lable/cdnv"), module=module, max_steps=2)
    assert module.losses == []


def test_a_key_of_the_ends_alone_is_named_as_such(tmp_path: Path) -> None:
    callback, keeps = probe(), BestProbeCheckpoint("probe/label/cdnv_low", save_top_k=-1)
    with pytest.warns(UserWarning, match="cdnv_low is measured at the first and last probe"):
        fit(tmp_path, callback, keeps, max_steps=4)
    assert sorted(int(path[-11:-5]) for path in keeps.best_k_models) == [0, 4]


def test_a_trial_run_saves_nothing(tmp_path: Path) -> None:
    fit(tmp_path, probe(), BestProbeCheckpoint(KEY), fast_dev_run=True)
    assert not list(tmp_path.rglob("*.ckpt"))


def test_two_processes_agree(tmp_path: Path) -> None:
    class Look(pl.Callback):
        def on_train_end(self, trainer: pl.Trainer, *_: Any) -> None:
            (keeps,) = (c for c in trainer.callbacks if isinstance(c, BestProbeCheckpoint))
            names = sorted(Path(path).name for path in keeps.best_k_models)
            (tmp_path / f"rank{trainer.global_rank}.json").write_text(json.dumps(names))

    # Lightning orders the checkpoint behind `Look`, whose list is that before the final probe.
    callback, keeps = wandering(), BestProbeCheckpoint(KEY, save_top_k=2)
    fit(
        tmp_path,
        keeps,
        callback,
        Look(),
        module=Wanders(),
        max_steps=8,
        devices=2,
        strategy="ddp_fork",
    )
    values = {r.step: r.scalars[KEY] for r in read_run(tmp_path / "dnc" / "probe").records}
    assert len(values) == 9
    assert kept(tmp_path / "checkpoints") == best(values, 2)
    names = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    assert names[0] == names[1] == sorted(p.name for p in (tmp_path / "checkpoints").iterdir())


@pytest.mark.parametrize("probe_first", [True, False])
def test_the_other_flavour_in_both_orders(probe_first: bool, tmp_path: Path) -> None:
    import pytorch_lightning as other

    callback, keeps = probe(every_n_train_steps=2), BestProbeCheckpoint(KEY, save_top_k=-1)
    trainer = other.Trainer(
        max_steps=5,
        accelerator="cpu",
        default_root_dir=tmp_path,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[callback, keeps] if probe_first else [keeps, callback],
    )
    trainer.fit(in_flavour(BackboneModule, other.LightningModule)(), DataLoader(Floats(48), 12))
    assert sorted(int(path[-11:-5]) for path in keeps.best_k_models) == [0, 2, 4, 5]


@pytest.mark.parametrize(
    ("probed", "saved", "warned"),
    [
        ({}, {"every_n_train_steps": 7}, True),
        ({}, {}, True),
        ({}, {"train_time_interval": None, "every_n_epochs": 1}, True),
        ({"every_n_train_steps": 3}, {"every_n_train_steps": 6}, False),
        ({"every_n_train_steps": 6}, {"every_n_train_steps": 3}, True),
        ({"every_n_train_steps": 4}, {}, False),  # four batches an epoch
        ({"every_n_train_steps": 3}, {}, True),
        ({"every_n_train_steps": 1}, {}, False),
        ({"every_n_epochs": 1}, {}, False),
        ({"every_n_epochs": 2}, {}, True),
        ({"every_n_epochs": 1}, {"every_n_train_steps": 4}, True),
        ({"every_n_train_steps": 1, "max_overhead": 0.5}, {}, True),
    ],
)
def test_a_model_checkpoint_that_cannot_know_is_warned_about(
    probed: dict[str, Any], saved: dict[str, Any], warned: bool, tmp_path: Path
) -> None:
    checkpoint = ModelCheckpoint(tmp_path / "kept", monitor=KEY, **saved)
    callback = probe(**probed)
    if warned:
        with pytest.warns(UserWarning, match=r"also saves at steps.*BestProbeCheckpoint\(monitor"):
            fit(tmp_path, callback, checkpoint, max_steps=30)
    else:
        fit(tmp_path, callback, checkpoint, max_steps=30)


def test_an_average_over_resolved_pairs_alone_is_named_as_such(tmp_path: Path) -> None:
    best = BestProbeCheckpoint("probe/label/cdnv_unbiased")
    with pytest.warns(UserWarning, match="of which an encoder that collapses keeps the best"):
        fit(tmp_path, probe(), best, max_steps=1)


def test_what_is_better_follows_from_the_declaration(tmp_path: Path) -> None:
    callback = probe(every_n_train_steps=2, metrics=["health", "few_shot"], shots=(1,))
    high = BestProbeCheckpoint("probe/features/effective_rank", save_top_k=-1)
    low = BestProbeCheckpoint("probe/label/few_shot_error/1", save_top_k=-1)
    fit(tmp_path, callback, high, low, max_steps=8)
    assert (high.mode, low.mode) == ("max", "min")
    for kept, best in ((high, max), (low, min)):
        scores = [r.scalars[str(kept.monitor)] for r in records(callback)]
        assert float(kept.best_model_score) == pytest.approx(best(scores))  # type: ignore[arg-type]


def test_what_has_no_better_direction_needs_a_mode(tmp_path: Path) -> None:
    key = "probe/features/norm"
    with pytest.raises(
        ValueError, match=r"neither a low nor a high Norm of the features is better"
    ):
        fit(tmp_path, probe(metrics=["health"]), BestProbeCheckpoint(key), max_steps=1)
    fit(tmp_path, probe(metrics=["health"]), BestProbeCheckpoint(key, "max"), max_steps=1)
