"""The series of a classifier's accuracy, and its numbers under their keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from dnc_lightning.functional.scores import Accuracy
from dnc_lightning.probe.instrument import Found
from dnc_lightning.series import Reference, Series

_GROUP = "Accuracy of probes"


def accuracy_series(key: str, title: str, meaning: str, chance: str) -> tuple[Series, ...]:
    """Declare top-1 and balanced accuracy with their standard errors, and that of every class.

    Args:
        key: Before their keys.
        title: Before their titles.
        meaning: Which classifier, on which samples.
        chance: Key of the accuracy of naming the largest class.
    """
    common: dict[str, Any] = {"group": _GROUP, "low": 0.0, "high": 1.0, "direction": "higher"}
    error: dict[str, Any] = {"group": _GROUP, "low": 0.0}
    return (
        Series(
            key=f"{key}/top1",
            title=f"{title}, top-1",
            meaning=f"share of right answers of {meaning}",
            references=(Reference("largest class", chance),),
            role="measured",
            **common,
        ),
        Series(
            key=f"{key}/top1_se",
            title=f"{title}, standard error",
            meaning="of the top-1 accuracy, over the samples that it was tested on",
            **error,
        ),
        Series(
            key=f"{key}/balanced",
            title=f"{title}, balanced",
            meaning=f"mean over classes of the share of right answers of {meaning}",
            **common,
        ),
        Series(
            key=f"{key}/balanced_se",
            title=f"{title}, standard error, balanced",
            meaning="of the balanced accuracy, over the samples that it was tested on",
            **error,
        ),
        Series(
            key=f"{key}/per_class",
            title=f"{title}, by class",
            meaning=f"share of right answers of {meaning}, for each class",
            axes=("class",),
            **common,
        ),
    )


def chance_series(key: str, title: str) -> Series:
    """Declare the accuracy of naming the largest class."""
    return Series(
        key=key,
        title=f"{title}, largest class",
        meaning="accuracy of naming the class with most samples, whatever the features",
        group=_GROUP,
        low=0.0,
        high=1.0,
    )


def accuracy_found(
    found: dict[str, Accuracy], chance: dict[str, Tensor | float], notes: Sequence[str] = ()
) -> Found:
    """The numbers of classifiers by the keys that they were declared with, and of chance."""
    scalars: dict[str, Tensor | float] = {}
    for key, one in found.items():
        scalars |= {
            f"{key}/top1": one.top1,
            f"{key}/top1_se": one.top1_error,
            f"{key}/balanced": one.balanced,
            f"{key}/balanced_se": one.balanced_error,
        }
    arrays = {f"{key}/per_class": one.per_class for key, one in found.items()}
    return Found(scalars | chance, arrays, notes)
