from __future__ import annotations

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Small tensors: threads cost more than they give, and results do not depend on the machine."""
    torch.set_num_threads(1)
