"""One curve is one experiment: what a resumed run must not go on with."""

from __future__ import annotations

import json
import re
import threading
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor

from dnc_lightning import ProbeCallback, ProbeSet
from dnc_lightning.callbacks.identity import changes
from dnc_lightning.callbacks.recorder import Recorder
from dnc_lightning.metrics import DirectionalCollapse
from dnc_lightning.reporting import Record, read_run
from tests.callbacks.fits import data, fit, records, steps, thorough
from tests.callbacks.modules import BackboneModule, Clean, TeacherModule

pytestmark = pytest.mark.filterwarnings(
    "ignore:You're resuming from a checkpoint that ended before the epoch ended",
    "ignore:Be aware that when using .ckpt_path., callbacks used to create the checkpoint",
)


def mirrored(image: Tensor) -> Tensor:
    return image.flip(2)


def darker(image: Tensor) -> Tensor:
    return image // 2


def features(module: Any, images: Tensor) -> Tensor:
    found: Tensor = module.backbone(images)
    return found


def other_labels() -> Tensor:
    return Clean().targets.roll(1)


def make(probe: dict[str, Any] | None = None, **options: Any) -> ProbeCallback:
    probe = {"per_class": 8} | (probe or {})
    options = {"metrics": ["collapse", "few_shot"], "shots": (5,), "examples": False} | options
    return ProbeCallback(ProbeSet(Clean(), **probe), **options)


def resume(folder: Path, first: ProbeCallback, second: ProbeCallback, **options: Any) -> list[str]:
    """Train to step 4, resume to step 8 with another callback, and return what was warned of."""
    module = options.pop("module", BackboneModule)
    fit(folder, first, module=module(), max_steps=4).save_checkpoint(folder / "four.ckpt")
    with Caught() as caught:
        fit(folder, second, module=module(), max_steps=8, ckpt_path=folder / "four.ckpt", **options)
    return [text for text in caught.texts if text.startswith("probe: ")]


class Caught:
    """Collects warnings without making errors of them."""

    def __enter__(self) -> Caught:
        self.context = warnings.catch_warnings(record=True)
        self.caught: Any = self.context.__enter__()
        warnings.simplefilter("always")
        return self

    def __exit__(self, *error: Any) -> None:
        self.texts = [str(w.message) for w in self.caught]
        self.context.__exit__(*error)


CHANGES: dict[str, tuple[Callable[[], ProbeCallback], str]] = {
    "fewer samples": (lambda: make({"per_class": 5}), "samples of each class: .*8.* -> .*5"),
    "other samples": (lambda: make({"seed": 1}), "other chosen samples"),
    "other labels": (
        lambda: make({"labels": other_labels()}),
        "other chosen samples; other images",
    ),
    "merged classes": (
        lambda: make({"labels": Clean().targets.clamp(max=1)}),
        "tasks and classes: .*'dark', 'middle', 'bright'.* -> .*",
    ),
    "another task": (
        lambda: make({"labels": {"label": Clean().targets, "even": torch.arange(60) % 2}}),
        "tasks and classes: ",
    ),
    "a mirrored image": (lambda: make({"transform": mirrored}), "other images"),
    "another brightness": (lambda: make({"transform": darker}), "other images"),
    "a crop": (
        lambda: make({"transform": lambda image: image[:, 1:, 1:]}),
        r"image shape: \[3, 12, 12\] -> \[3, 11, 11\]",
    ),
    "a layer": (lambda: make(encoder="backbone:5"), "encoders: .*backbone.* -> .*backbone:5"),
    "a function": (lambda: make(encoder=features), "encoders: "),
    "normalisation": (lambda: make(normalize=True), "normalize: False -> True"),
    "pooling": (lambda: make(pooling="mean"), "pooling: auto -> mean"),
    "episodes": (lambda: make(ways=2), "ways: None -> 2"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_resumed_run_that_is_probed_otherwise_starts_a_folder_of_its_own(
    change: str, tmp_path: Path
) -> None:
    build, said = CHANGES[change]
    first, second = make(), build()
    caught = resume(tmp_path, first, second)
    assert first.run_dir_ is not None
    assert second.run_dir_ is not None
    assert (first.run_dir_.name, second.run_dir_.name) == ("probe", "probe-v1")
    assert len(caught) == 1
    assert f"whose records stay in {first.run_dir_}, was probed otherwise: " in caught[0]
    assert re.search(said, caught[0]), caught[0]
    assert steps(first) == [0, 1, 2, 3, 4]
    # The new curve starts where the weights are, with a thorough point, and ends with one.
    assert steps(second) == [4, 5, 6, 8]
    if "label" in second.probe.tasks:
        assert thorough(second) == [4, 8]
    assert read_run(second.run_dir_).header["tasks"].keys() == second.probe.tasks.keys()


def test_two_functions_of_one_name_are_told_apart(tmp_path: Path) -> None:
    student = make(encoder=lambda module, images: module.student_backbone(images))
    teacher = make(encoder=lambda module, images: module.teacher_backbone(images))
    (said,) = resume(tmp_path, student, teacher, module=TeacherModule)
    assert "code of the encoders" in said
    assert steps(teacher)[0] == 4


def scaled(module: Any, images: Tensor, power: int = 1) -> Tensor:
    found: Tensor = module.backbone(images)
    return found.abs() ** power


def closed_over(power: int) -> Any:
    return lambda module, images: module.backbone(images).abs() ** power


class Power:
    def __init__(self, power: int) -> None:
        self.power = power

    def __call__(self, module: Any, images: Tensor) -> Tensor:
        found: Tensor = module.backbone(images)
        return found.abs() ** self.power

    def method(self, module: Any, images: Tensor) -> Tensor:
        return self(module, images)


SETTINGS: dict[str, Callable[[int], Any]] = {
    "closure": closed_over,
    "partial": lambda power: partial(scaled, power=power),
    "default": lambda power: lambda module, images, p=power: scaled(module, images, p),
    "object": Power,
    "method": lambda power: Power(power).method,
}


@pytest.mark.parametrize("kind", SETTINGS)
def test_one_function_with_other_settings_is_another(kind: str, tmp_path: Path) -> None:
    build = SETTINGS[kind]
    second = make(encoder=build(2))
    (said,) = resume(tmp_path / "other", make(encoder=build(1)), second)
    assert "code of the encoders" in said
    assert steps(second)[0] == 4
    again = make(encoder=build(2))
    assert resume(tmp_path / "same", make(encoder=build(2)), again) == []
    assert steps(again)[0] == 0


def halved(module: Any, images: Tensor) -> Tensor:
    return images / 2


def test_another_preprocess_is_another_experiment(tmp_path: Path) -> None:
    for name, before, after in (
        ("added", None, halved),
        ("removed", halved, None),
        ("changed", halved, lambda module, images: images / 3),
    ):
        second = make(preprocess=after)
        said = resume(tmp_path / name, make(preprocess=before), second)
        assert any("was probed otherwise: other preprocess" in text for text in said)
        assert steps(second)[0] == 4
    same = make(preprocess=lambda module, images: images / 2)
    said = resume(tmp_path / "same", make(preprocess=halved), same)
    assert not any("otherwise: " in text for text in said)
    assert steps(same)[0] == 0


class Touched(Clean):
    """One image that is not among the few whose pixels are kept is a negative."""

    changed = -1

    def __getitem__(self, index: int) -> Any:
        image, *rest = super().__getitem__(index)
        return (255 - image if index == self.changed else image, *rest)


def test_one_other_image_is_enough(tmp_path: Path) -> None:
    first = make()
    second = make()
    data_set: Any = Touched()
    data_set.changed = int(first.probe.indices[1])
    second.probe = ProbeSet(data_set, per_class=8)
    (said,) = resume(tmp_path, first, second)
    assert "was probed otherwise: other images, some of them." in said
    assert steps(second)[0] == 4


def test_a_second_module_of_one_trainer_has_a_curve_of_its_own(tmp_path: Path) -> None:
    callback = make()
    trainer = fit(tmp_path, callback, max_epochs=1)
    first = callback.run_dir_
    trainer.fit_loop.max_epochs = 2
    trainer.fit(BackboneModule(), data())
    assert first is not None
    assert callback.run_dir_ is not None
    assert (first.name, callback.run_dir_.name) == ("probe", "probe-v1")
    assert [r.step for r in read_run(first).records] == [0, 1, 2, 3, 4]
    assert thorough(callback) == [4, 8]
    trainer.fit_loop.max_epochs = 3
    trainer.fit(trainer.lightning_module, data())  # the same one goes on
    assert callback.run_dir_.name == "probe-v1"
    assert steps(callback)[-1] == 12


def test_a_curve_that_began_anew_goes_on_in_a_second_fit(tmp_path: Path) -> None:
    second = make({"per_class": 5})
    fit(tmp_path, make(), max_epochs=1).save_checkpoint(tmp_path / "four.ckpt")
    with Caught():
        trainer = fit(tmp_path, second, max_epochs=2, ckpt_path=tmp_path / "four.ckpt")
        trainer.fit_loop.max_epochs = 3
        trainer.fit(trainer.lightning_module, data())
    assert steps(second) == [4, 5, 6, 8, 10, 12]


def test_the_settings_of_a_further_metric(tmp_path: Path) -> None:
    class Top(DirectionalCollapse):
        def __init__(self, k: int) -> None:
            super().__init__(num_classes=3)
            self.k = k

    one, two = (make(metrics=["collapse", Top(k)]) for k in (1, 2))
    (said,) = resume(tmp_path, one, two)
    assert "metric Top" in said


class Alike:
    """What may change: none of it changes a value."""

    more_shots: Any = staticmethod(lambda: make(shots=(1, 5, 6)))
    other_metrics: Any = staticmethod(lambda: make(metrics=["collapse", "variance"]))
    schedule: Any = staticmethod(lambda: make(max_overhead=0.5))


@pytest.mark.parametrize("name", ["same", "more_shots", "other_metrics", "schedule"])
def test_the_same_probe_goes_on(name: str, tmp_path: Path) -> None:
    first = make()
    second = make() if name == "same" else getattr(Alike, name)()
    assert resume(tmp_path, first, second) == []
    assert first.run_dir_ == second.run_dir_
    assert steps(second)[:5] == [0, 1, 2, 3, 4]
    assert steps(second)[-1] == 8
    assert thorough(second) == [0, 4, 8]


def test_another_batch_size_and_number_of_processes_go_on(tmp_path: Path) -> None:
    first, second = make(), make()
    caught = resume(tmp_path, first, second, devices=2, strategy="ddp_fork")
    assert caught == []
    run = read_run(tmp_path / "dnc" / "probe")
    assert [record.step for record in run.records] == [0, 1, 2, 3, 4, 5, 6, 8]
    assert run.header["world_size"] == 2
    assert not (tmp_path / "dnc" / "probe-v1").exists()


def test_two_processes_begin_anew_together(tmp_path: Path) -> None:
    first, second = make(), make({"per_class": 5})
    resume(tmp_path, first, second, devices=2, strategy="ddp_fork")
    assert [r.step for r in read_run(tmp_path / "dnc" / "probe-v1").records] == [4, 5, 6, 8]
    assert steps(first) == [0, 1, 2, 3, 4]


def test_another_precision_goes_on_and_is_said(tmp_path: Path) -> None:
    first, second = make(), make()
    (said,) = resume(tmp_path, first, second, precision="bf16-mixed")
    assert "made in precision 32-true, later ones in bf16-mixed" in said
    assert steps(second) == [0, 1, 2, 3, 4, 5, 6, 8]


def older(folder: Path, **other: Any) -> None:
    """Make a header as versions before wrote it."""
    path = folder / "run.json"
    header = json.loads(path.read_text())
    del header["fingerprint"], header["steps"]
    path.write_text(json.dumps(header | other))


def test_keys_that_began_otherwise_are_another_curve(tmp_path: Path) -> None:
    """Versions before let keys begin with a `log_prefix` of their own."""
    first, second = make(), make()
    fit(tmp_path, first, max_steps=4).save_checkpoint(tmp_path / "four.ckpt")
    assert first.run_dir_ is not None
    older(first.run_dir_, prefixes={"backbone": {"label": "other/label"}})
    with pytest.warns(UserWarning, match="probed otherwise: keys: .*other/label.* -> .*probe/lab"):
        fit(tmp_path, second, max_steps=8, ckpt_path=tmp_path / "four.ckpt")
    assert steps(second) == [4, 5, 6, 8]
    assert thorough(second) == [4, 8]


@pytest.mark.parametrize(("per_class", "goes_on"), [(8, True), (5, False)])
def test_headers_of_versions_before_are_compared_by_what_they_hold(
    per_class: int, goes_on: bool, tmp_path: Path
) -> None:
    first, second = make(), make({"per_class": per_class})
    fit(tmp_path, first, max_steps=4).save_checkpoint(tmp_path / "four.ckpt")
    assert first.run_dir_ is not None
    older(first.run_dir_)
    state = torch.load(tmp_path / "four.ckpt", weights_only=True)
    (key,) = (key for key in state["callbacks"] if "ProbeCallback" in key)
    for new in ("scores", "further"):
        del state["callbacks"][key][new]
    torch.save(state, tmp_path / "old.ckpt")
    with Caught() as caught:
        fit(tmp_path, second, max_steps=8, ckpt_path=tmp_path / "old.ckpt")
    assert any("probed otherwise" in text for text in caught.texts) != goes_on
    assert steps(second) == ([0, 1, 2, 3, 4, 5, 6, 8] if goes_on else [4, 5, 6, 8])


def test_records_that_are_gone_begin_anew_with_a_first_point(tmp_path: Path) -> None:
    first, second = make(dirpath=tmp_path / "a"), make(dirpath=tmp_path / "b")
    fit(tmp_path, first, max_steps=4).save_checkpoint(tmp_path / "four.ckpt")
    (tmp_path / "a" / "records.jsonl").unlink()
    with pytest.warns(UserWarning, match="are not at .*: starting anew"):
        fit(tmp_path, second, max_steps=8, ckpt_path=tmp_path / "four.ckpt")
    assert steps(second) == [4, 5, 6, 8]
    assert thorough(second) == [4, 8]


def test_pixels_that_another_machine_rounds_otherwise_are_the_same() -> None:
    header = {"fingerprint": {"images": [[0.25, 0.1, 0.5]], "labels": {"label": "ab"}}}
    near = {"fingerprint": {"images": [[0.2502, 0.1, 0.5]], "labels": {"label": "ab"}}}
    far = {"fingerprint": {"images": [[0.2602, 0.1, 0.5]], "labels": {"label": "ab"}}}
    assert changes(header, near) == []
    assert len(changes(header, far)) == 1
    assert changes({}, header) == []


def test_recorders_that_start_together_have_folders_of_their_own(tmp_path: Path) -> None:
    header = {"name": "probe", "precision": "32-true"}
    start, recorders = threading.Barrier(8), [Recorder() for _ in range(8)]

    def open_(recorder: Recorder) -> None:
        start.wait()
        assert recorder.open(tmp_path / "dnc" / "probe", header, None, -1) == []

    threads = [threading.Thread(target=open_, args=(recorder,)) for recorder in recorders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({r.writer.folder for r in recorders if r.writer is not None}) == 8


def test_runs_that_resume_together_do_not_write_into_one_folder(tmp_path: Path) -> None:
    header = {"name": "probe", "precision": "32-true"}
    folder, before = tmp_path / "dnc" / "probe", Recorder()
    before.open(folder, header, None, -1)
    for step in range(3):
        before.write(record(step), {})
    before.close()
    start, recorders = threading.Barrier(6), [Recorder() for _ in range(6)]
    said: list[str] = []

    def resume_(recorder: Recorder) -> None:
        start.wait()
        said.extend(recorder.open(folder, header, folder, 1))

    threads = [threading.Thread(target=resume_, args=(recorder,)) for recorder in recorders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k, recorder in enumerate(recorders):
        recorder.write(record(10 + k), {})
    folders = [r.writer.folder for r in recorders if r.writer is not None]
    assert len(set(folders)) == 6
    assert len(said) == 5
    assert all("Another run is still writing to " in text for text in said)
    for k, own in enumerate(folders):
        assert [r.step for r in read_run(own).records] == [0, 1, 10 + k]


def record(step: int) -> Record:
    return Record(step=step, epoch=0, time=0.0, scalars={})


def test_a_run_that_goes_on_while_another_resumes_it_keeps_its_records(tmp_path: Path) -> None:
    """The second starts from the checkpoint of the first, which has not ended."""
    second, said = make(), []

    class Resume(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            if trainer.global_step == 3:
                trainer.save_checkpoint(tmp_path / "three.ckpt")
                with Caught() as caught:
                    fit(tmp_path, second, max_steps=5, ckpt_path=tmp_path / "three.ckpt")
                said.extend(t for t in caught.texts if t.startswith("probe: "))

    first = make()
    fit(tmp_path, first, Resume(), max_steps=6)
    assert first.run_dir_ is not None
    assert second.run_dir_ is not None
    assert (first.run_dir_.name, second.run_dir_.name) == ("probe", "probe-v1")
    assert len(said) == 1
    assert "this one goes on with a copy" in said[0]
    assert steps(first) == [0, 1, 2, 3, 4, 5, 6]
    assert steps(second) == [0, 1, 2, 3, 4, 5]


def test_a_run_that_failed_lets_another_go_on_in_its_folder(tmp_path: Path) -> None:
    class Fails(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            if trainer.global_step == 2:
                trainer.save_checkpoint(tmp_path / "two.ckpt")
                raise RuntimeError("of the user")

    first, second = make(), make()
    with pytest.raises(RuntimeError, match="of the user"):
        fit(tmp_path, first, Fails(), max_steps=6)
    with Caught():
        fit(tmp_path, second, max_steps=4, ckpt_path=tmp_path / "two.ckpt")
    assert first.run_dir_ == second.run_dir_
    assert steps(second) == [0, 1, 2, 3, 4]


def test_the_fingerprint_is_plain_and_the_same_twice(tmp_path: Path) -> None:
    marks = []
    for folder in ("a", "b"):
        callback = make()
        fit(tmp_path / folder, callback, max_steps=1)
        assert callback.run_dir_ is not None
        marks.append(read_run(callback.run_dir_).header["fingerprint"])
        assert len(records(callback)) == 2
    assert marks[0] == marks[1]
    assert marks[0]["width of the features"] == {"backbone": 8}
