"""Opening Hugging Face datasets and reading their labels, with errors that say what to do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from recipes.data.decoded import check_same_classes, listed

if TYPE_CHECKING:
    from datasets import Dataset


def open_split(name: str, subset: str | None, split: str) -> Dataset:
    """Open one split, from a local folder if `name` is one, else from the cache or the hub.

    Args:
        name: Local folder or name on the hub.
        subset: Configuration, or None for the only one.
        split: Name of the split.

    Returns:
        The split, memory-mapped.

    Raises:
        ValueError: If `datasets` is not installed, or dataset or split cannot be found.
    """
    try:
        import datasets
    except ImportError as error:
        raise ValueError(
            "data.HuggingFace needs the package datasets, which is not installed. Run "
            "pip install 'dnc_lightning[recipes]'."
        ) from error
    folder = Path(name)
    if (folder / "dataset_dict.json").is_file() or (folder / split / "state.json").is_file():
        if not (folder / split / "state.json").is_file():
            found = [path.parent.name for path in folder.glob("*/state.json")]
            raise ValueError(_no_split(name, split, f"it has {listed(found)}"))
        return datasets.load_from_disk(str(folder / split))
    if (folder / "state.json").is_file():
        raise ValueError(
            f"{name} must hold a training and a probe split, got a single dataset without splits. "
            "Save a DatasetDict of two with save_to_disk."
        )
    try:
        return datasets.load_dataset(name, subset, split=split)
    except ValueError as error:
        if "split" in str(error).lower():
            raise ValueError(_no_split(name, split, str(error))) from error
        raise ValueError(
            f"could not open the dataset {name!r}, subset {subset!r}: {error} Set data.name and "
            "data.subset."
        ) from error
    except (OSError, datasets.exceptions.DatasetsError) as error:
        raise ValueError(
            f"data.name must be a dataset of the Hugging Face hub or a local folder, and {name!r} "
            f"could not be opened ({error}). Check the spelling. Without a network, "
            f"first run 'hf download --repo-type dataset {name}' where there is one, copy the "
            "folder that HF_HOME names, and set HF_HOME and HF_HUB_OFFLINE=1 here; or set "
            "data.name to a local folder with the files."
        ) from error


def check_columns(dataset: Dataset, image_column: str, label_columns: list[str]) -> None:
    """Refuse columns that are not there or hold something else.

    Raises:
        ValueError: If so.
    """
    import datasets

    for argument, column in [("image_column", image_column)] + [
        ("label_columns", column) for column in label_columns
    ]:
        if column not in dataset.features:
            raise ValueError(
                f"the dataset has no column {column!r}, only {listed(dataset.features)}. Set "
                f"data.{argument}."
            )
    if not isinstance(dataset.features[image_column], datasets.Image):
        raise ValueError(
            f"column {image_column!r} must hold images, got {dataset.features[image_column]}. Set "
            "data.image_column, or cast it with cast_column(name, datasets.Image()) and save the "
            "dataset."
        )
    for column in label_columns:
        feature = dataset.features[column]
        plain = getattr(feature, "dtype", "").lstrip("u").startswith(("int", "bool"))
        if not plain and getattr(feature, "dtype", "") not in ("string", "large_string"):
            raise ValueError(
                f"column {column!r} must hold one integer, string or class label per image, got "
                f"{feature}. Set data.label_columns to other columns."
            )


def read_labels(train: Dataset, probe: Dataset, column: str) -> tuple[Tensor, Tensor, list[str]]:
    """Read one label column of two splits, and no images.

    Args:
        train: Training split.
        probe: Probe split.
        column: Name of the column.

    Returns:
        Class indices of both splits, ``[N]`` and ``[M]``, and the names of the classes: those of
        the class labels, else the values in order, as strings.

    Raises:
        ValueError: If labels are missing, or a split has a class that the other one lacks.
    """
    (train_codes, names), (probe_codes, probe_names) = (
        _codes(train, column, "training"),
        _codes(probe, column, "probe"),
    )
    present = (
        [own[code] for code in codes.unique().tolist()]
        for codes, own in ((train_codes, names), (probe_codes, probe_names))
    )
    check_same_classes(*present, f"column {column!r}")
    # Splits may number the same names differently; names without images keep any number.
    position = {name: index for index, name in enumerate(names)}
    renumbered = torch.tensor([position.get(name, 0) for name in probe_names])
    return train_codes, renumbered[probe_codes], names


def _codes(dataset: Dataset, column: str, split: str) -> tuple[Tensor, list[str]]:
    values = dataset.with_format(None).select_columns([column])[:][column]
    missing = sum(value is None for value in values)
    names = getattr(dataset.features[column], "names", None)
    if names is not None and not missing:
        missing = sum(value < 0 for value in values)  # what `datasets` writes for "unlabelled"
    if missing or not values:
        raise ValueError(
            f"every image needs a label, got {missing} of {len(values)} without one in column "
            f"{column!r} of the {split} split. Filter them out and save the dataset, or choose "
            "another split."
        )
    if names is not None:
        return torch.tensor(values), list(names)
    ordered = sorted(set(values))
    position = {value: index for index, value in enumerate(ordered)}
    return torch.tensor([position[value] for value in values]), [str(v) for v in ordered]


def _no_split(name: str, split: str, found: str) -> str:
    return (
        f"the dataset {name!r} has no split {split!r}: {found}. Set data.train_split and "
        "data.probe_split."
    )
