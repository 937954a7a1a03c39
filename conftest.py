"""Names that the examples in docstrings may use without importing them."""

from __future__ import annotations

import pytest
import torch

import dnc_lightning.functional
import dnc_lightning.metrics
from dnc_lightning import LogSpaced, ProbeSet


@pytest.fixture(autouse=True)
def _examples(doctest_namespace: dict[str, object]) -> None:
    torch.manual_seed(0)
    for module in (dnc_lightning.functional, dnc_lightning.metrics):
        doctest_namespace.update({name: getattr(module, name) for name in module.__all__})
    doctest_namespace.update(torch=torch, LogSpaced=LogSpaced, ProbeSet=ProbeSet)
