"""Attacks and derivatives: closed forms of linear encoders, slow references of a small network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dnc_lightning.functional.sensitivity import attacked, margin_loss, slopes

GENERATOR = torch.Generator().manual_seed(0)


def linear(d: int = 5) -> Tensor:
    return torch.randn(d, 12, generator=torch.Generator().manual_seed(1))


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 5))


def images(n: int = 6) -> Tensor:
    return torch.rand(n, 3, 2, 2, generator=torch.Generator().manual_seed(2))


def test_the_margin_is_half_the_difference_of_squared_distances() -> None:
    x, means = torch.randn(7, 5), torch.randn(4, 5)
    y = torch.arange(7) % 4
    d2 = torch.cdist(x, means).square()
    own = d2.gather(1, y[:, None])[:, 0]
    rival = d2.scatter(1, y[:, None], torch.inf).amin(1)
    torch.testing.assert_close(margin_loss(x, y, means), (own - rival) / 2)


def test_of_two_classes_and_a_linear_encoder_the_attack_is_the_best_there_is() -> None:
    weight, x = linear(), images()
    means = torch.randn(2, 5, generator=torch.Generator().manual_seed(5))
    y = torch.arange(6) % 2
    size = torch.tensor([0.1, 0.02, 0.3]).view(1, 3, 1, 1)

    def encode(z: Tensor) -> Tensor:
        return z.flatten(1) @ weight.T

    found = attacked(encode, x, y, means, size=size, steps=4)
    slope = ((means[1 - y] - means[y]) @ weight).view(6, 3, 2, 2)
    torch.testing.assert_close(found, x + size * slope.sign())
    within = attacked(encode, x, y, means, size=size, steps=4, low=0.0, high=1.0)
    torch.testing.assert_close(within, (x + size * slope.sign()).clamp(0, 1))


def test_an_attack_is_never_worse_than_none_and_within_its_bounds() -> None:
    net, x = network(), images(20)
    means = torch.randn(4, 5, generator=torch.Generator().manual_seed(6)) / 3
    y = torch.arange(20) % 4
    size = torch.full((1, 3, 1, 1), 0.05)
    found = attacked(net, x, y, means, size=size, steps=5, low=0.0, high=1.0)
    with torch.no_grad():
        before, after = (margin_loss(net(z), y, means) for z in (x, found))
    assert bool((after >= before).all())
    assert float((after - before).mean()) > 0
    assert float((found - x).abs().max()) <= 0.05 + 1e-6
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
    assert torch.equal(found, attacked(net, x, y, means, size=size, steps=5, low=0.0, high=1.0))


def test_slopes_of_a_linear_encoder_are_its_weights() -> None:
    weight, x = linear(), images(2000)
    u = nn.functional.normalize(torch.randn(2000, 5), dim=1)
    found = slopes(lambda z: z.flatten(1) @ weight.T, x, u, torch.Generator().manual_seed(0))
    torch.testing.assert_close(found.along, (u @ weight).square().sum(1), rtol=1e-4, atol=1e-4)
    whole = float(weight.square().sum())
    spread = float(found.total.std()) / np.sqrt(2000)
    assert float(found.total.mean()) == pytest.approx(whole, abs=5 * spread)


def test_slopes_match_whole_jacobians() -> None:
    net, x = network(), images(4)
    u = nn.functional.normalize(torch.randn(4, 5), dim=1)
    draws = [slopes(net, x, u, torch.Generator().manual_seed(k)) for k in range(400)]
    total = torch.stack([draw.total for draw in draws])
    for i in range(4):
        jacobian = torch.autograd.functional.jacobian(net, x[i : i + 1]).view(5, 12)
        along = float((u[i] @ jacobian).square().sum())
        assert float(draws[0].along[i]) == pytest.approx(along, rel=1e-4)
        error = 5 * float(total[:, i].std()) / 20
        assert float(total[:, i].mean()) == pytest.approx(
            float(jacobian.square().sum()), abs=max(error, 1e-6)
        )
