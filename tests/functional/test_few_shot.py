from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch

from dnc_lightning.functional import few_shot as module
from dnc_lightning.functional import ncc_error
from dnc_lightning.functional.few_shot import Shard, ncc_errors
from tests.functional import reference
from tests.functional.shards import run_sharded


def data(
    counts: tuple[int, ...] = (12, 20, 9, 15), d: int = 3
) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = reference.asymmetric(3, counts, d)
    return torch.as_tensor(x).float(), torch.as_tensor(y)


def slow_error(x: np.ndarray, y: np.ndarray, m: int, ways: int, episodes: int) -> np.ndarray:
    """One error an episode, by loops."""
    rng = np.random.default_rng(0)
    out = []
    for _ in range(episodes):
        classes = rng.choice(int(y.max()) + 1, ways, replace=False)
        rows = {c: rng.permutation(np.flatnonzero(y == c)) for c in classes}
        centres = np.stack([x[rows[c][:m]].mean(0) for c in classes])
        errors = []
        for k, c in enumerate(classes):
            distance = ((x[rows[c][m:], None] - centres) ** 2).sum(2)
            errors.append((distance.argmin(1) != k).mean())
        out.append(np.mean(errors))
    return np.array(out)


@pytest.mark.parametrize(("m", "ways"), [(1, None), (3, None), (8, None), (2, 2), (2, 3)])
def test_matches_loops(m: int, ways: int | None) -> None:
    x, y = data()
    mean, error = ncc_error(x, y, shots=m, ways=ways, episodes=2_000)
    expected = slow_error(x.numpy(), y.numpy(), m, ways or 4, 1_500)
    noise = (float(error) ** 2 + expected.var() / len(expected)) ** 0.5
    assert abs(float(mean) - expected.mean()) < 4 * noise
    assert float(error) == pytest.approx(expected.std() / 2_000**0.5, rel=0.1)


def test_several_shots_share_a_pass_and_any_order() -> None:
    x, y = data()
    mean, _ = ncc_errors(x, y, shots=[5, 1, 3], episodes=50)
    again, _ = ncc_errors(x, y, shots=[1, 3, 5], episodes=50)
    assert torch.equal(mean, again[[2, 0, 1]])


def test_chunks_of_episodes_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = data()
    whole = ncc_errors(x, y, shots=[2], episodes=30)
    monkeypatch.setattr(module, "CHUNK_ELEMENTS", 1)
    assert torch.allclose(torch.stack(ncc_errors(x, y, shots=[2], episodes=30)), torch.stack(whole))


def test_an_offset_changes_nothing() -> None:
    x, y = data()
    plain, moved = ncc_error(x, y, shots=2), ncc_error(x + 1_000, y, shots=2)
    assert float(plain[0]) == pytest.approx(float(moved[0]), abs=2e-3)


@pytest.mark.parametrize("cut", [0, 17, 30])
def test_shards_give_the_numbers_of_the_whole(cut: int) -> None:
    x, y = data()
    expected = ncc_errors(x, y, shots=[1, 4], episodes=20)
    rows = [torch.arange(cut), torch.arange(cut, len(y))]
    results = run_sharded(
        lambda rank, reduce: ncc_errors(
            x[rows[rank]],
            y[rows[rank]],
            shots=[1, 4],
            episodes=20,
            shard=Shard(y, rows[rank], reduce),
        ),
        2,
    )
    for result in results:
        assert torch.allclose(torch.stack(result), torch.stack(expected), atol=1e-6)


def test_random_states_are_left_alone_and_a_generator_is_used() -> None:
    x, y = data()
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    first, again = ncc_error(x, y, shots=2), ncc_error(x, y, shots=2)
    assert torch.equal(first[0], again[0])
    other = ncc_error(x, y, shots=2, generator=torch.Generator().manual_seed(1))
    assert not torch.equal(first[0], other[0])
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (random.getstate(), np.random.get_state()[1].tolist())


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"shots": 0}, "shots must be at least 1, got 0"),
        ({"shots": 9}, r"shots=9 leaves no sample to classify: class 2 has 9\. .* at least 10"),
        ({"shots": 2, "ways": 5}, "between 2 and the 4 classes, got 5"),
        ({"shots": 2, "ways": 1}, "between 2 and the 4 classes, got 1"),
        ({"shots": 2, "episodes": 1}, "episodes must be at least 2"),
    ],
)
def test_bad_input(kwargs: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        ncc_error(*data(), **kwargs)
