from __future__ import annotations

import numpy as np
import pytest
import torch

from dnc_lightning.functional import coarsen, cramers_v
from dnc_lightning.functional.labels import contingency


def reference_v(a: np.ndarray, b: np.ndarray) -> float:
    chi2, n = 0.0, len(a)
    for i in set(a):
        for j in set(b):
            expected = (a == i).sum() * (b == j).sum() / n
            chi2 += (((a == i) & (b == j)).sum() - expected) ** 2 / expected
    return float(np.sqrt(chi2 / n / (min(len(set(a)), len(set(b))) - 1)))


@pytest.mark.parametrize("seed", range(5))
def test_cramers_v_against_a_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 4, 60)
    b = np.where(rng.random(60) < 0.4, (a + 1) % 3, 2 * rng.integers(0, 3, 60))
    got = cramers_v(torch.as_tensor(a), torch.as_tensor(b))
    assert float(got) == pytest.approx(reference_v(a, b), rel=1e-12)
    swapped = cramers_v(torch.as_tensor(b), torch.as_tensor(a))
    assert float(swapped) == pytest.approx(float(got), rel=1e-12)
    table = contingency(torch.as_tensor(a), torch.as_tensor(b), 4, 5)
    for i in range(4):
        for j in range(5):
            assert int(table[i, j]) == ((a == i) & (b == j)).sum()


def test_cramers_v_of_two_binary_labelings_is_their_correlation() -> None:
    rng = np.random.default_rng(0)
    a = rng.random(200) < 0.3
    b = a ^ (rng.random(200) < 0.2)
    got = cramers_v(torch.as_tensor(a).long(), torch.as_tensor(~b).long())
    assert float(got) == pytest.approx(np.corrcoef(a, b)[0, 1], rel=1e-9)


def test_cramers_v_at_its_ends() -> None:
    y = torch.arange(60)
    assert float(cramers_v(y % 3, y % 4)) == pytest.approx(0, abs=1e-9)
    assert float(cramers_v(y % 3, (y + 1) % 3 * 2)) == pytest.approx(1)
    assert float(cramers_v(y % 6, y % 3)) == pytest.approx(1)
    assert float(cramers_v(torch.ones_like(y), y % 3)) == 0
    with pytest.raises(ValueError, match="got negative ones"):
        cramers_v(y - 1, y)
    with pytest.raises(ValueError, match=r"integers of shape \[60\]"):
        cramers_v(y, y[1:])


def test_coarsen_by_number_name_and_tensor() -> None:
    y = torch.tensor([3, 0, 2, 2, 0], dtype=torch.int32)
    assert coarsen(y, {0: 1, 2: 0, 3: 1}).tolist() == [1, 1, 0, 0, 1]
    assert coarsen(y, torch.tensor([5, 9, 0, 1])).tolist() == [1, 5, 0, 0, 5]
    names = ["cat", "dog", "car", "bee"]
    kinds = {"bee": "insect", "cat": "mammal", "car": "thing", "dog": "mammal"}
    assert coarsen(y, kinds, classes=names).tolist() == [0, 1, 2, 2, 1]
    assert coarsen(y, {0: "b", 2: "a", 3: "b"}).tolist() == [1, 1, 0, 0, 1]
    assert coarsen(y, {"cat": 4, "car": 0, "bee": np.int64(2)}, classes=names).tolist() == [
        2, 4, 0, 0, 4,
    ]  # fmt: skip
    assert coarsen(y[:0], {}).tolist() == []


def test_coarsen_names_what_is_missing() -> None:
    y = torch.tensor([0, 2])
    with pytest.raises(ValueError, match=r"got none for class 2 \('car'\)"):
        coarsen(y, {"cat": 0}, classes=["cat", "dog", "car"])
    with pytest.raises(ValueError, match="got none for class 2"):
        coarsen(y, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="all integers or all names"):
        coarsen(y, {0: "a", 2: 1})
    with pytest.raises(ValueError, match="at least 0, got -1"):
        coarsen(y, {0: 0, 2: -1})
