"""A sample that cannot be read is named, by its index in the data set given and by its file."""

from __future__ import annotations

import gc
import warnings
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, IterableDataset, Subset

from dnc_lightning import ProbeCallback, ProbeSet
from dnc_lightning.probe import bank
from tests.callbacks.modules import BackboneModule, Clean, loader
from tests.probe.labelled import IMAGE, Items, folder, found, labelled

datasets = pytest.importorskip("datasets")
vision = pytest.importorskip("torchvision.datasets")
transforms = pytest.importorskip("torchvision.transforms")


def read_all(probe: ProbeSet) -> None:
    for position in range(len(probe)):
        probe.image(position)


def broken(root: Path, how: bytes | None = None) -> tuple[Path, int]:
    """A folder of which one file is cut short or holds something else, and its index."""
    folder(root)
    path = root / "c2" / "022.png"
    whole = path.read_bytes()
    path.write_bytes(whole[:-30] if how is None else how)
    names = [name for name, _ in vision.ImageFolder(root).samples]
    return path, names.index(str(path))


@pytest.mark.parametrize("how", [None, b"", b"not an image"])
def test_a_corrupt_file_names_its_sample_and_path(tmp_path: Path, how: bytes | None) -> None:
    path, index = broken(tmp_path, how)
    data = vision.ImageFolder(tmp_path)
    match = (
        rf"sample {index} of the probe's data set \({path}\): could not be read: .*Error.*Subset"
    )
    with pytest.raises(ValueError, match=match) as caught:
        read_all(ProbeSet(data, per_class=10))
    assert isinstance(caught.value.__cause__, OSError)
    left = [i for i in range(len(data)) if i != index]
    read_all(ProbeSet(Subset(data, left), per_class=9))


def test_a_corrupt_file_is_named_through_subsets_and_concatenations(tmp_path: Path) -> None:
    path, index = broken(tmp_path)
    data = vision.ImageFolder(tmp_path, transform=transforms.ToTensor())
    order = [5, 3, index, 30, 35, 15]
    for part, place in (
        (Subset(Subset(data, list(range(39, -1, -1))), [39 - i for i in order]), 2),
        (ConcatDataset([Subset(data, [0, 19, 38]), Subset(data, order)]), 5),
    ):
        with pytest.raises(ValueError, match=rf"sample {place} .*\({path}\): could not be read"):
            read_all(ProbeSet(part, per_class=1, labels=list(range(len(part)))))


def test_the_path_is_that_of_the_file_that_failed(tmp_path: Path) -> None:
    path, index = broken(tmp_path)
    files = [name for name, _ in vision.ImageFolder(tmp_path).samples]

    class Reversed(vision.ImageFolder):
        def __getitem__(self, i: int) -> Any:
            return super().__getitem__(len(self) - 1 - i)

    opened = []

    class Lazy(Items):
        def __getitem__(self, i: Any) -> Any:
            opened.append(Image.open(files[i]))
            return opened[-1], i % 2

    with pytest.raises(ValueError, match=rf"sample {39 - index} .*\({path}\)"):
        read_all(ProbeSet(Reversed(tmp_path), 10, labels=[i % 2 for i in range(40)]))
    with pytest.raises(ValueError, match=rf"sample {index} .*\({path}\): could not"):
        read_all(ProbeSet(Lazy([0] * 40), 20))
    files[3] = str(tmp_path / "gone.png")
    with pytest.raises(ValueError, match=r"sample 3 .*\(.*gone.png\): could not .*FileNotFound"):
        read_all(ProbeSet(Lazy([0] * 40), 20))
    files[3] = files[4]
    lazily = ProbeSet(
        Lazy([0] * 40), 1, labels=[f"{i:02d}" for i in range(40)], transform=transforms.ToTensor()
    )
    with pytest.raises(ValueError, match=rf"sample {index} .*\({path}\): could not be read"):
        read_all(lazily)
    for image in opened:
        image.close()


def test_hugging_face_files_are_named(tmp_path: Path) -> None:
    path, _ = broken(tmp_path)
    good = sorted(tmp_path.glob("c1/*.png"))
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])}
    )
    columns = {"image": [str(good[0]), str(good[1]), str(path)], "label": [0, 1, 0]}
    data = datasets.Dataset.from_dict(columns, features=features)
    for part, place in ((data, 2), (Subset(data, [2, 1]), 0)):
        complaint = ""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # datasets leaves the file open
            try:
                found(part)
            except ValueError as error:
                complaint = str(error)
            gc.collect()
        assert f"sample {place} of the probe's data set ({path}): could not be read" in complaint


def test_the_file_of_an_image_that_is_refused_is_named(tmp_path: Path) -> None:
    folder(tmp_path)
    path = tmp_path / "c1" / "001.png"
    data = vision.ImageFolder(tmp_path, transform=np.asarray)
    index = [name for name, _ in data.samples].index(str(path))
    Image.new("RGB", (6, 7)).save(path)
    data.transform = lambda image: None if image.size == (6, 7) else np.asarray(image)
    with pytest.raises(ValueError, match=rf"sample {index} .*\({path}\): .*got NoneType"):
        read_all(ProbeSet(data, 10))


@pytest.mark.parametrize(
    ("item", "match"),
    [
        (None, "got NoneType"),
        (IMAGE, r"must be \(image, label\).* got Tensor"),
        ((IMAGE,), "got tuple"),
        ({"picture": IMAGE, "label": 1}, "one of the keys image, img, got"),
        (([IMAGE, IMAGE], 1), "must be one PIL image.*got list"),
    ],
)
@pytest.mark.parametrize("given", [False, True])
def test_an_item_of_another_kind_names_its_index(item: Any, match: str, given: bool) -> None:
    data = labelled([i % 2 for i in range(20)])
    data[7] = item
    with pytest.raises(ValueError, match=f"sample 7 of the probe's data set: .*{match}"):
        read_all(ProbeSet(data, 10, labels=[i % 2 for i in range(20)] if given else None))


def test_a_failing_transform_names_the_sample_and_itself() -> None:
    def transform(image: torch.Tensor) -> torch.Tensor:
        return image / 0 if image.any() else {}["missing"]

    with pytest.raises(ValueError, match=r"sample \d of .*transform failed on .*Tensor: KeyError"):
        read_all(ProbeSet(labelled([0, 1, 0, 1]), 2, transform=transform))


def test_metadata_do_not_hide_an_item_that_cannot_be_read() -> None:
    class Broken(Items):
        def __getitem__(self, index: Any) -> Any:
            if index == 19:
                raise RuntimeError("disk on fire")
            return super().__getitem__(index)

    data = Broken([(IMAGE, i % 2) for i in range(20)], targets=[i % 2 for i in range(20)])
    with pytest.raises(ValueError, match=r"sample 19 .*could not be read: RuntimeError.*on fire"):
        found(data)


def stream(length: int | None) -> IterableDataset:
    class Stream(IterableDataset):
        def __iter__(self) -> Any:
            return iter(labelled([0, 1, 2] * 4))

    if length is not None:
        Stream.__len__ = lambda self: length  # type: ignore[attr-defined]
    return Stream()


@pytest.mark.parametrize("length", [None, 12])
def test_a_stream_is_refused_with_a_remedy_that_works(length: int | None) -> None:
    with pytest.raises(ValueError, match=r"map-style .* got Stream.*list\(itertools.islice\("):
        ProbeSet(stream(length))
    assert found(list(islice(stream(length), 10_000))) == {"label": ["0", "1", "2"] * 4}
    rows = datasets.Dataset.from_dict({"image": [[[0]]] * 2, "label": [0, 1]})
    with pytest.raises(ValueError, match="map-style"):
        ProbeSet(rows.to_iterable_dataset())
    assert found(list(islice(rows.to_iterable_dataset(), 10_000))) == {"label": ["0", "1"]}


def test_loaders_and_mappings_of_splits_are_refused() -> None:
    data = labelled([0, 1])
    with pytest.raises(ValueError, match=r"got a DataLoader. Pass its \.dataset"):
        ProbeSet(DataLoader(data))
    with pytest.raises(ValueError, match=r"got a mapping of 'train', 'test'\. Pass one"):
        ProbeSet({"train": data, "test": data})


def test_a_read_error_while_training_is_recorded_with_the_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Flaky(Clean):
        gone = False

        def __getitem__(self, index: int) -> Any:
            if Flaky.gone and index == 31:
                raise OSError("Stale file handle")
            return super().__getitem__(index)

    class Unplug(Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            Flaky.gone = True

    monkeypatch.setattr(bank, "HOST_SHARE", 0.0)
    data = Flaky()
    callback = ProbeCallback(
        ProbeSet(data, per_class=20, labels=data.targets, transform=lambda x: x / 255),
        every_n_train_steps=1,
        dirpath=tmp_path / "probe",
        metrics=["collapse"],
        examples=False,
    )
    trainer = Trainer(
        max_steps=3,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[callback, Unplug()],
    )
    match = r"sample 31 .*could not be read: OSError.*Stale file handle.*Training goes on"
    with pytest.warns(UserWarning, match=match):
        trainer.fit(BackboneModule(), loader())
    assert trainer.global_step == 3
    lines = (tmp_path / "probe" / "records.jsonl").read_text().splitlines()
    assert "sample 31" not in lines[0]
    assert "sample 31" in lines[-1]
