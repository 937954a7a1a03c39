"""Labelled images by a word on the command line: a folder, a Hugging Face data set, an object."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule

from dnc_lightning.evaluation.encoders.files import imported
from dnc_lightning.evaluation.network import hugging_face
from dnc_lightning.evaluation.optional import require
from dnc_lightning.probe.probe_set import ProbeSet

FORMS = (
    "a folder with a folder of images for each class, "
    '"hf:NAME:SPLIT" or "hf:FOLDER:SPLIT" (Hugging Face datasets), or "path.to:object", which is '
    "or makes a data set, a ProbeSet or a LightningDataModule with a probe_set"
)


def load_probe(
    spec: str, *, per_class: int | None = None, labels: Any = None, seed: int = 0
) -> ProbeSet:
    """Make a probe set of the labelled images that a spec names.

    Args:
        spec: A folder, "hf:NAME:SPLIT", or "path.to:object".
        per_class: Samples of each class; default 100, or as the object's own.
        labels: Which columns are tasks, as of ProbeSet.
        seed: Of the choice.

    Raises:
        ValueError: a spec of another form, or data that cannot be loaded.
        ModuleNotFoundError: a package that it needs; names the extra.
    """
    found = _dataset(spec)
    if isinstance(found, LightningDataModule):
        found.prepare_data()
        found = getattr(found, "probe_set", found)
    if isinstance(found, ProbeSet):
        if per_class is None and labels is None and seed == found.seed:
            return found
        own = found.labels if labels is None else labels
        return found.rechosen(found.per_class if per_class is None else per_class, own, seed)
    if isinstance(found, LightningDataModule):
        raise ValueError(f"{spec} has no probe_set. Name a function that returns its data set.")
    return ProbeSet(found, 100 if per_class is None else per_class, labels, seed=seed)


def _dataset(spec: str) -> Any:
    if Path(spec).is_dir():
        require("torchvision")
        from torchvision.datasets import ImageFolder

        try:
            return ImageFolder(spec)
        except FileNotFoundError as error:
            raise ValueError(f"{spec} is not a folder of classes: {error}.") from error
    source, _, rest = spec.partition(":")
    if source == "hf" and rest:
        return _hugging_face(rest)
    if rest and all(part.isidentifier() for part in source.split(".")):
        found = imported(spec)
        made = hasattr(found, "__getitem__") or isinstance(found, ProbeSet | LightningDataModule)
        if made and not isinstance(found, type):
            return found
        try:
            return found()
        except TypeError as error:
            raise ValueError(f"{spec} cannot be made without arguments: {error}.") from error
    raise ValueError(f"data is {FORMS}; got {spec!r}, which is neither.")


def _hugging_face(rest: str) -> Any:
    require("datasets")
    import datasets

    name, _, split = rest.rpartition(":")
    if not name:
        raise ValueError(f'name the split too: "hf:{rest}:test".')
    if Path(name).joinpath("dataset_dict.json").exists():
        return datasets.load_from_disk(name)[split]
    if Path(name).joinpath("state.json").exists():
        return datasets.load_from_disk(name)
    with hugging_face(f"the data set {name}"):
        return datasets.load_dataset(name, split=split)
