"""Continuous targets of a probe's samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor


def read_targets(given: Mapping[str, Any] | None, samples: int) -> dict[str, Tensor]:
    """Check the continuous targets of a data set.

    Args:
        given: Name -> [N] or [N, n] numbers, a tensor, array or list, a row for each sample.
        samples: N.

    Returns:
        Name -> [N, n] float32, or float64 where float32 would change a value.

    Raises:
        ValueError: another number of rows, values that are not finite numbers, or a name with "/".
    """
    found = {}
    for name, values in (given or {}).items():
        try:
            array = np.asarray(values.cpu() if isinstance(values, Tensor) else values, np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"target {name!r} must hold numbers: {error}.") from error
        if not name or "/" in name:
            raise ValueError(f'the name of a target must be given, without "/": got {name!r}.')
        if array.ndim not in (1, 2) or len(array) != samples or not array.size:
            raise ValueError(
                f"target {name!r} must be [{samples}] or [{samples}, n], a row for each sample of "
                f"the data set, got {list(array.shape)}."
            )
        if not np.isfinite(array).all():
            missing = np.flatnonzero(~np.isfinite(array.reshape(samples, -1)).all(1))
            raise ValueError(
                f"target {name!r} of {len(missing)} samples is nan or infinite, the first is "
                f"sample {missing[0]}. Leave them out with torch.utils.data.Subset."
            )
        wide = torch.from_numpy(array.reshape(samples, -1))
        narrow = wide.float()
        found[str(name)] = narrow if torch.equal(narrow.double(), wide) else wide
    return found
