"""What training gives the encoder, against what the probe gives it."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from dnc_lightning import ProbeCallback, ProbeSet
from dnc_lightning.functional import class_geometry, collapse_summary
from dnc_lightning.probe.inputs import Summary, differ, is_compiled
from dnc_lightning.records.store import Record
from dnc_lightning.reporting import read_run
from tests.callbacks.modules import BackboneModule, Base, Clean, Floats, images

MEAN, STD = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


def normalised(x: Tensor) -> Tensor:
    return (x.float() / 255 - MEAN) / STD


def backbone() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Plain(Base):
    """Floats from the loader of bytes in its training step, as probes give them."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = backbone(), nn.Linear(8, 3)

    def prepare(self, x: Tensor) -> Tensor:
        return x.float() / 255

    def training_step(self, batch: Any, _: int) -> Tensor:
        return self.loss(self.backbone(self.prepare(batch[0])), batch[1])


class Normed(Plain):
    """Normalises bytes on their way to the device."""

    def on_after_batch_transfer(self, batch: Any, _: int) -> Any:
        return normalised(batch[0]), batch[1]

    def prepare(self, x: Tensor) -> Tensor:
        return x


class NormedFloats(Normed):
    """Converts before and normalises after, as images on a GPU often are."""

    def on_before_batch_transfer(self, batch: Any, _: int) -> Any:
        return batch[0].float() / 255, batch[1]

    def on_after_batch_transfer(self, batch: Any, _: int) -> Any:
        return (batch[0] - MEAN) / STD, batch[1]


class Rows(Normed):
    """Batches are dicts."""

    def on_after_batch_transfer(self, batch: Any, _: int) -> Any:
        return batch | {"pixels": normalised(batch["pixels"])}

    def training_step(self, batch: Any, _: int) -> Tensor:
        return self.loss(self.backbone(batch["pixels"]), batch["y"])


class Bytes(Base):
    """Takes bytes and scales them itself."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = backbone(), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner((x.float() - 127.5) / 50)

    def training_step(self, batch: Any, _: int) -> Tensor:
        return self.loss(self(batch[0]), batch[1])


class Transfers(pl.LightningDataModule):
    """Bytes that the data module normalises."""

    def train_dataloader(self) -> DataLoader:
        return byte_loader()

    def on_after_batch_transfer(self, batch: Any, _: int) -> Any:
        return normalised(batch[0]), batch[1]


def byte_loader(batch_size: int = 12) -> DataLoader:
    return DataLoader(TensorDataset(*images(48, seed=1)), batch_size)


def rows() -> DataLoader:
    x, y = images(48, seed=1)
    return DataLoader([{"pixels": a, "y": b} for a, b in zip(x, y, strict=True)], 12)


def fit(
    path: Path, module: pl.LightningModule, data: Any = None, probe: Any = None, **kwargs: Any
) -> tuple[list[Record], list[str]]:
    """Records of a run of 3 steps, and what was said about the images."""
    kwargs = {"every_n_train_steps": 1, "shots": (1, 5)} | kwargs
    callback = ProbeCallback(probe or ProbeSet(Clean(), per_class=15), **kwargs)
    trainer = pl.Trainer(
        max_steps=3,
        accelerator="cpu",
        default_root_dir=path,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[callback],
    )
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        trainer.fit(module, data or byte_loader())
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in module.modules())
    assert callback.run_dir_ is not None
    records = read_run(callback.run_dir_).records
    return records, [str(w.message) for w in said if "Training gives the encoder" in str(w.message)]


def by_hand(encode: Callable[[Tensor], Tensor], probe: ProbeSet) -> dict[str, float]:
    """The last record's values, of images that are prepared here."""
    data = Clean()
    with torch.no_grad():
        features = encode(data.x[probe.indices])
    summary = collapse_summary(class_geometry(features, data.targets[probe.indices]))
    return {f"probe/label/{name}": float(value) for name, value in summary.items()}


def remedy(said: list[str]) -> Any:
    """The argument that the warning shows."""
    line = said[0].split("Pass ProbeCallback(preprocess=")[1].removesuffix(").")
    return eval(line, {"torch": torch})


class Views(Normed):
    """Batches as lightly makes them; each view is normalised."""

    def on_after_batch_transfer(self, batch: Any, _: int) -> Any:
        views, y, names = batch
        return [normalised(x) for x in views], y, names

    def training_step(self, batch: Any, _: int) -> Tensor:
        (one, two), y, _names = batch
        return self.loss(self.backbone(one), y) + self.loss(self.backbone(two), y)


class MakesViews(Normed):
    """Two views of what was one image, on the device, and labels of their type."""

    def on_after_batch_transfer(self, batch: Any, _: int) -> Any:
        x = normalised(batch[0])
        return {"views": (x, x.flip(-1)), "y": batch[1].long()}

    def training_step(self, batch: Any, _: int) -> Tensor:
        return self.loss(self.backbone(batch["views"][0]), batch["y"])


def views() -> DataLoader:
    x, y = images(48, seed=1)
    return DataLoader([([a, a.flip(-1)], b, "name") for a, b in zip(x, y, strict=True)], 12)


@pytest.mark.parametrize(
    ("style", "data", "line"),
    [
        (
            Normed,
            byte_loader,
            "module.on_after_batch_transfer(((images * 255).round().to(torch.uint8), None), 0)[0]",
        ),
        (
            NormedFloats,
            byte_loader,
            "module.on_after_batch_transfer(module.on_before_batch_transfer("
            "((images * 255).round().to(torch.uint8), None), 0), 0)[0]",
        ),
        (
            Rows,
            rows,
            "module.on_after_batch_transfer("
            "{'pixels': (images * 255).round().to(torch.uint8), 'y': None}, 0)['pixels']",
        ),
        (
            Views,
            views,
            "module.on_after_batch_transfer(([(images * 255).round().to(torch.uint8), "
            "(images * 255).round().to(torch.uint8)], None, None), 0)[0][0]",
        ),
        (
            MakesViews,
            byte_loader,
            "module.on_after_batch_transfer(((images * 255).round().to(torch.uint8), "
            "torch.zeros(len(images), dtype=torch.int64)), 0)['views'][0]",
        ),
        (Bytes, byte_loader, "(images * 255).round().to(torch.uint8)"),
        (
            Plain,
            Transfers,
            "module.trainer.datamodule.on_after_batch_transfer("
            "((images * 255).round().to(torch.uint8), None), 0)[0]",
        ),
    ],
)
def test_other_images_are_noticed_and_the_remedy_works(
    style: type, data: Callable[[], Any], line: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    module = style()
    if style is Plain:
        module.prepare = lambda x: x
    again = copy.deepcopy(module)
    records, said = fit(tmp_path / "without", module, data())
    assert len(said) == 1
    assert line in said[0]
    assert [len(record.warnings) for record in records] == [0, 1, 0, 0]
    assert "cannot have been prepared in the same way" in records[1].warnings[0]

    probe = ProbeSet(Clean(), per_class=15)
    records, said = fit(tmp_path / "with", again, data(), probe, preprocess=remedy(said))
    assert not said
    assert not any(record.warnings for record in records)
    encode = again if style is Bytes else lambda x: again.backbone(normalised(x))
    for key, value in by_hand(encode, probe).items():
        assert records[-1].scalars[key] == pytest.approx(value, rel=1e-6), key


class Augmented(Normed):
    """Normalises, and adds noise, in the same hook."""

    def on_after_batch_transfer(self, batch: Any, _: int) -> Any:
        x = normalised(batch[0])
        return x + 0.1 * torch.randn_like(x), batch[1]


def test_a_hook_that_augments_is_no_remedy(tmp_path: Path) -> None:
    """Probed through it, the same weights would give another value each time."""
    _, said = fit(tmp_path, Augmented())
    assert len(said) == 1
    assert "lambda module, images: ..." in said[0]
    assert "(module.on_after_batch_transfer changes batches), except at random." in said[0]


class CopiesItself(Plain):
    """Copies, pickles and maps its backbone in the steps that are looked at."""

    def training_step(self, batch: Any, index: int) -> Tensor:
        if index == 0:
            callback = next(c for c in self.trainer.callbacks if isinstance(c, ProbeCallback))
            self.look = callback.engine_.inputs
            self.made = copy.deepcopy(self.backbone), pickle.loads(pickle.dumps(self.backbone))
            parameters = dict(self.backbone.named_parameters())

            def one(x: Tensor) -> Tensor:
                return torch.func.functional_call(self.backbone, parameters, (x[None],))[0]

            torch.func.vmap(one)(self.prepare(batch[0]))
        return super().training_step(batch, index)


def test_looking_stands_in_the_way_of_nothing(tmp_path: Path) -> None:
    module = CopiesItself()
    _, said = fit(tmp_path, module)
    assert not said
    look = module.look
    assert look.done  # seen in the calls after that under vmap
    seen = look._seen[0].images
    for made in module.made:
        made(torch.rand(4, 3, 12, 12))
    assert look._seen[0].images == seen


class InPlace(nn.Module):
    """Normalises what it is given in place."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sub_(MEAN).div_(STD)


def test_encoders_that_work_in_place_leave_the_images_as_they_are(tmp_path: Path) -> None:
    """Of floats, which the bank keeps as they are; two such encoders, in one pass."""
    torch.manual_seed(0)
    module, probe = Plain(), ProbeSet(Floats(), per_class=15)
    module.backbone.insert(0, InPlace())
    module.other = copy.deepcopy(module.backbone).requires_grad_(False)
    encoder = {"one": "backbone", "two": "other"}
    records, said = fit(tmp_path, module, probe=probe, encoder=encoder)
    assert not said
    for name, network in (("one", module.backbone), ("two", module.other)):
        for key, value in by_hand(lambda x, network=network: network(x / 255), probe).items():
            key = key.replace("probe/", f"probe/{name}/")
            assert records[-1].scalars[key] == pytest.approx(value, rel=1e-5), key


def test_a_transform_that_does_the_same_is_quiet_and_right(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, probe = Normed(), ProbeSet(Clean(), per_class=15, transform=normalised)
    records, said = fit(tmp_path, module, probe=probe)
    assert not said
    for key, value in by_hand(lambda x: module.backbone(normalised(x)), probe).items():
        assert records[-1].scalars[key] == pytest.approx(value, rel=1e-6), key


class Fixed(Plain):
    """Prepares its images by a function."""

    def __init__(self, prepare: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.prepare = prepare


class Jitter:
    """What augmentation does at its worst."""

    def __init__(self, *kinds: nn.Module) -> None:
        self.all = torchvision.transforms.Compose(kinds)

    def __call__(self, x: Tensor) -> Tensor:
        return torch.stack([self.all(image / 255) for image in x])


T = torchvision.transforms


@pytest.mark.parametrize(
    "prepare",
    [
        lambda x: x / 255,
        lambda x: x / 255 + 0.1 * torch.randn(x.shape),
        lambda x: x / 255 * 0.6 + 0.05 * torch.randn(x.shape),  # darker, and noisy
        lambda x: (x / 255).bfloat16().float(),
        lambda x: nn.functional.interpolate(x / 255, 24),
        Jitter(T.ColorJitter(0.8, 0.8, 0.8, 0.2)),
        Jitter(T.RandomResizedCrop(12, (0.08, 1)), T.Grayscale(3), T.GaussianBlur(5, 2.0)),
        Jitter(T.RandomSolarize(0.5, 1.0)),
        lambda x: x[:1].expand(len(x), -1, -1, -1) / 255,  # a loader that is not shuffled
    ],
)
def test_augmentation_is_no_other_preprocessing(
    prepare: Callable[[Tensor], Tensor], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    _, said = fit(tmp_path, Fixed(prepare))
    assert not said


@pytest.mark.parametrize(
    "prepare",
    [
        lambda x: x.float(),
        lambda x: x / 255 * 2 - 1,
        lambda x: x / 255 - 0.4,
        lambda x: (x / 255 - 0.1307) / 0.3081,
        lambda x: (x / 255 - 0.286) / 0.353,
    ],
)
def test_a_training_step_that_prepares_otherwise_is_noticed(
    prepare: Callable[[Tensor], Tensor], tmp_path: Path
) -> None:
    records, said = fit(tmp_path, Fixed(prepare))
    assert len(said) == 1
    assert "ProbeSet(transform=...) that does to the probe's images what training does" in said[0]
    assert records[1].warnings


def test_a_batch_of_one_waits_for_more(tmp_path: Path) -> None:
    _, said = fit(tmp_path, Normed(), byte_loader(4))
    assert "Training gives the encoder floats" in said[0]
    _, said = fit(tmp_path, Fixed(lambda x: x / 255 * 0), byte_loader(4))
    assert not said  # blank


class Compiled(Normed):
    """Its backbone runs compiled, so that no hook may be added."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone.compile(backend="eager")


class TeacherOnly(Normed):
    """What is probed never runs in training."""

    def __init__(self) -> None:
        super().__init__()
        self.teacher = copy.deepcopy(self.backbone)


def test_the_batch_is_looked_at_where_the_encoder_cannot_be(tmp_path: Path) -> None:
    for name, module, kwargs in (
        ("compiled", Compiled(), {}),
        ("teacher", TeacherOnly(), {"encoder": "teacher", "every_n_train_steps": 1}),
    ):
        callback = ProbeCallback(ProbeSet(Clean(), per_class=15), **kwargs)
        engine = _engine(tmp_path / name, module, callback)
        batch = module.on_after_batch_transfer(next(iter(byte_loader())), 0)
        said = []
        for _ in range(10):
            engine.inputs.begin(batch)
            said += engine.inputs.end(batch)
        assert len(said) == 1
        assert "images: module.on_after_batch_transfer(" in said[0]


def _engine(path: Path, module: pl.LightningModule, callback: ProbeCallback) -> Any:
    trainer = pl.Trainer(
        max_steps=0,
        accelerator="cpu",
        default_root_dir=path,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[callback],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, byte_loader())
        callback.on_fit_start(trainer, module)
    return callback.engine_


def test_what_is_compiled_is_seen() -> None:
    module = BackboneModule()
    assert not is_compiled(module)
    assert not is_compiled(
        nn.ModuleList([torchvision.models.resnet18(), nn.TransformerEncoderLayer(8, 2)])
    )
    module.backbone[0].compile(backend="eager")
    assert is_compiled(module)
    module = BackboneModule()
    module.head = torch.compile(module.head, backend="eager")
    assert is_compiled(module)
    module = BackboneModule()
    module.loss = torch.compile(module.loss, backend="eager")
    assert is_compiled(module)


def test_summaries_merge() -> None:
    a, b = torch.randn(3, 3, 4, 4), 2 * torch.randn(5, 3, 4, 4) + 1
    both, merged = Summary.of(torch.cat([a, b])), Summary.of(a).merge(Summary.of(b))
    for name in ("images", "channels", "floating", "low", "high", "mean", "std"):
        assert getattr(merged, name) == pytest.approx(getattr(both, name), rel=1e-5)
    assert not differ(merged, both)
    assert differ(Summary.of(a), Summary.of(a[:, :1]))
    assert differ(Summary.of(a), Summary.of(a.to(torch.uint8)))


def test_preprocess_must_return_images(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="preprocess must be a callable"):
        ProbeCallback(ProbeSet(Clean(), per_class=15), preprocess="normalise")
    for wrong, got in ((lambda m, x: (x, None), "tuple"), (lambda m, x: x[:1], r"\[1, 3, 12, 12")):
        with pytest.raises(ValueError, match=rf"preprocess must return images .* got {got}"):
            fit(tmp_path, Plain(), preprocess=wrong)


class MakesTeacher(Plain):
    def on_fit_start(self) -> None:
        self.teacher = copy.deepcopy(self.backbone)
        with torch.no_grad():
            self.teacher[0].weight.mul_(torch.linspace(0.5, 2, 8).view(8, 1, 1, 1))


def test_a_teacher_that_the_module_makes_in_on_fit_start(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, probe = MakesTeacher(), ProbeSet(Clean(), per_class=15)
    encoder = {"student": "backbone", "teacher": "teacher"}
    records, _ = fit(tmp_path, module, probe=probe, encoder=encoder)
    assert [record.step for record in records] == [0, 1, 2, 3]
    for name, network in (("student", module.backbone), ("teacher", module.teacher)):
        for key, value in by_hand(lambda x, network=network: network(x / 255), probe).items():
            key = key.replace("probe/", f"probe/{name}/")
            assert records[-1].scalars[key] == pytest.approx(value, rel=1e-6), key
    with pytest.raises(ValueError, match=r"'teacherr' does not exist .* Near names: teacher"):
        fit(tmp_path / "typo", MakesTeacher(), encoder="teacherr")


class VisionTransformer(Base):
    """torchvision's, whose attribute `encoder` takes tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.model = torchvision.models.VisionTransformer(12, 4, 1, 2, 8, 16, num_classes=3)
        self.model.heads = nn.Identity()
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)

    def training_step(self, batch: Any, _: int) -> Tensor:
        return self.loss(self(batch[0] / 255), batch[1])


def test_forward_where_model_encoder_takes_tokens(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, probe = VisionTransformer(), ProbeSet(Clean(), per_class=15)
    records, said = fit(tmp_path, module, probe=probe)
    assert not said
    assert "Probing forward ([N, D])" in records[0].notes[0]
    assert "model.encoder: Expected (batch_size, seq_length, hidden_dim)" in records[0].notes[0]
    for key, value in by_hand(lambda x: module.eval()(x / 255), probe).items():
        assert records[-1].scalars[key] == pytest.approx(value, rel=1e-4), key
