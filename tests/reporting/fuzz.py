"""Run folders as strangers, disks and hands leave them."""

from __future__ import annotations

import copy
import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 3, 10**6, 2**53, 10**30, 10**400, -(10**400), 1.5, -2.5, 1e308,
    -1e308, 5e-324, float("nan"), float("inf"), "", "x", "nan", "\ud800", "\x1b[31mred", "a<b>c",
    "../..", "/dev/zero", "x" * 5000, [], {}, [[]], [None], [1, "a"], {"a": 1}, {"": {}},
    [[[[1]]]], {"a": {"b": {"c": []}}},
)  # fmt: skip
KINDS = ("truncate", "flip", "insert", "delete", "swap", "swap", "swap", "swap")


def spots(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value, as the keys that lead there."""
    inner = value.items() if isinstance(value, dict) else ()
    for key, item in enumerate(value) if isinstance(value, list) else inner:
        yield (*path, key)
        yield from spots(item, (*path, key))


def swapped(content: Any, rng: random.Random) -> Any:
    """Put values of other types in one or two places, rename some, leave some out."""
    content = copy.deepcopy(content)
    for _ in range(rng.choice([1, 1, 2])):
        *way, last = rng.choice(list(spots(content)))
        at = content
        for key in way:
            at = at[key]
        chance = rng.random()
        if chance < 0.2:
            del at[last]
        elif chance < 0.3 and isinstance(at, dict):
            at[str(rng.choice(VALUES[12:]))[:30]] = at.pop(last)
        else:
            at[last] = rng.choice(VALUES)
    return content


def damage(folder: Path, rng: random.Random) -> str:
    """Damage one file of a run; returns how, in words."""
    kind = rng.choice(KINDS)
    if kind == "swap":
        path = folder / rng.choice(["run.json", "records.jsonl"])
        whole = path.name == "run.json"
        lines = [path.read_text()] if whole else path.read_text().splitlines()
        at = rng.choice([0, len(lines) - 1, rng.randrange(len(lines))])
        lines[at] = json.dumps(swapped(json.loads(lines[at]), rng))
        path.write_text("\n".join(lines) + "\n")
        return f"swap in {path.name}"
    path = rng.choice(sorted(p for p in folder.rglob("*") if p.is_file()))
    content = bytearray(path.read_bytes())
    at = rng.randrange(len(content))
    if kind == "truncate":
        path.write_bytes(content[:at])
    elif kind == "delete":
        path.unlink()
    elif kind == "insert":
        path.write_bytes(content[:at] + rng.randbytes(rng.choice([1, 30])) + content[at:])
    else:
        for _ in range(rng.choice([1, 5, 50])):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
    return f"{kind} {path.name}"


def damaged(good: Path, folder: Path, seed: int) -> str:
    """Copy a run and damage the copy; returns how."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(good, folder)
    return damage(folder, random.Random(seed))
