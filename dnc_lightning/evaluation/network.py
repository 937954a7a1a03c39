"""Hubs that cannot be reached are told within seconds, and caches are used all the same."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

PATIENCE = 5.0  # seconds


def reachable(address: str) -> bool:
    """Whether a server answers, through the proxies that are set."""
    try:
        with urlopen(Request(address, method="HEAD"), timeout=PATIENCE):
            return True
    except HTTPError:  # it answers, though not as one would wish
        return True
    except (URLError, OSError):
        return False


@contextmanager
def hugging_face(what: str) -> Iterator[None]:
    """Load from Hugging Face: only from its cache where the hub cannot be reached.

    Raises:
        ValueError: it is neither to be reached nor in the cache; names the cache.
    """
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    # The library asks for minutes before it looks into its cache; this is its own switch.
    offline = before or not reachable(constants.ENDPOINT)
    constants.HF_HUB_OFFLINE = offline
    try:
        yield
    except (OSError, RuntimeError) as error:
        if not offline:
            raise ValueError(f"{what} cannot be loaded: {_first_line(error)}") from error
        asked = "HF_HUB_OFFLINE is set" if before else f"{constants.ENDPOINT} cannot be reached"
        raise ValueError(
            f"{what} is not in the cache {constants.HF_HUB_CACHE}, and {asked}. Load it once on a "
            "machine with a network and copy that folder, or name a local folder instead."
        ) from error
    finally:
        constants.HF_HUB_OFFLINE = before


@contextmanager
def weights_cache(what: str, address: str) -> Iterator[None]:
    """Load weights that torch.hub keeps.

    Raises:
        ValueError: they can neither be downloaded nor are in the cache; names the cache.
    """
    import torch

    try:
        yield
    except (URLError, OSError) as error:
        raise ValueError(
            f"{what} cannot be downloaded from {address} and is not in the cache "
            f"{os.path.join(torch.hub.get_dir(), 'checkpoints')} ({_first_line(error)}). Load it "
            "once on a machine with a network and copy that folder."
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
