"""The processes that probe together, and the one way in which they wait for each other."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from dnc_lightning.functional import Reduce

DEADLINE = timedelta(minutes=5)
"""How long a process waits for the others before it gives the probe up."""

TEXT = 500
"""Bytes of an error that the other processes are told."""

_T = TypeVar("_T")


class OtherRankError(RuntimeError):
    """Another process has failed, so this one goes no further either."""


class LostError(RuntimeError):
    """The others did not come, or the connection broke; there is no agreeing any more."""


def reason_of(error: Exception) -> str:
    """Say why a part failed, here or elsewhere."""
    elsewhere = isinstance(error, OtherRankError)
    return f"{error}; it failed on another rank" if elsewhere else repr(error)


@dataclass
class Processes:
    """This process among those that probe together; alone where `exchange` is None.

    Before anything is summed the processes tell each other what they are about to do. So a failure
    on one is known to all at once, whatever the others were waiting for, and none is left behind:
    `attempt` then fails on all of them. Whatever cannot be exchanged before the deadline is lost,
    and from then on every call raises `LostError` at once.
    """

    rank: int = 0  # among all
    size: int = 1
    exchange: Reduce | None = None  # sums over all of them; may keep its argument, and raise
    shard: int = 0  # of the samples, which of the shards this process embeds
    shards: int = 1  # fewer than processes where several hold one model together
    leads: bool = True  # of those with the same shard, the one whose features count
    lost: str = ""  # why nothing can be exchanged any more
    _depth: int = 0  # attempts that are going on
    _failure: _Failure | None = None  # in one of them, until it has ended
    group: Any = None  # of torch.distributed, for sums that others make; None for the default one

    @classmethod
    def join(
        cls,
        rank: int,
        size: int,
        exchange: Reduce,
        shard: int,
        shards: int,
        group: Any = None,
    ) -> Processes:
        """Meet the others, and find out who has the same shard of the samples.

        Raises:
            ValueError: a shard that nobody has.
            LostError: the others did not come.
        """
        joined = cls(rank, size, exchange, shard, shards, group=group)
        everyone = joined._table(shard + 1)
        joined.leads = everyone.index(shard + 1) == rank
        if set(everyone) != set(range(1, shards + 1)):
            raise ValueError(
                f"the strategy splits data into {shards} parts, but its {size} processes have "
                f"the parts {sorted({part - 1 for part in everyone})}. Use another strategy, or "
                "remove the ProbeCallback."
            )
        return joined

    @property
    def own(self) -> slice:
        """This process's part of the samples."""
        return slice(self.shard, None, self.shards)

    @property
    def reduce(self) -> Reduce | None:
        """Sums over the shards; None for one process."""
        return None if self.exchange is None else self.sum

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of a tensor over the shards, of one shape and type on every process.

        Raises:
            OtherRankError: another process has failed, or is about to do something else.
            LostError: see the class.
        """
        if self.exchange is None:
            return tensor
        # Whatever may fail comes before the others are told that this process will send.
        sent = tensor.detach().cpu().contiguous()
        sent = sent.clone() if self.leads else torch.zeros_like(sent)
        self._meet(f"sum of {tensor.dtype} {list(tensor.shape)}")
        return self._send(sent).to(tensor.device)

    def any(self, flags: Tensor) -> Tensor:
        """Which of some booleans [n] are true on one process at least. Raises as `sum`."""
        if self.exchange is None:
            return flags
        sent = flags.to("cpu", torch.int32)
        self._meet(f"any of {list(flags.shape)}")
        return self._send(sent) > 0

    def of_rank_zero(self, tensor: Tensor) -> Tensor:
        """Return rank 0's values of a tensor that has one shape and type everywhere, on the CPU.

        A sum of bytes to which the others add zeros is exact for every type. Raises as `sum`.
        """
        own = tensor.detach().cpu().contiguous()
        if self.exchange is None:
            return own
        sent = own.flatten().view(torch.uint8)
        sent = sent.clone() if self.rank == 0 else torch.zeros_like(sent)
        self._meet(f"{own.dtype} {list(own.shape)} of rank 0")
        return self._send(sent).view(own.dtype).view(own.shape)

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """The tensors of all shards, which differ in their first size at most. Raises as `sum`."""
        lengths = torch.zeros(self.shards, dtype=torch.int64)
        lengths[self.shard] = len(tensor) if tensor.ndim else 1
        lengths = self.sum(lengths)
        rows = tensor if tensor.ndim else tensor[None]
        table = rows.new_zeros(self.shards, int(lengths.max()), *rows.shape[1:])
        table[self.shard, : len(rows)] = rows
        parts = zip(self.sum(table), lengths.tolist(), strict=True)
        return [part[:length] if tensor.ndim else part[0] for part, length in parts]

    def decide(self, value: float) -> float:
        """Rank 0's value; this process's own where the others are lost, and no probe follows."""
        try:
            sent = torch.tensor(value, dtype=torch.float64)
            return float(self.attempt(lambda: self.of_rank_zero(sent)))
        except (LostError, OtherRankError):
            return value

    def attempt(self, action: Callable[[], _T]) -> _T:
        """Return what `action` gives, or raise on every process if it fails on one.

        `action` may sum, and attempt further parts. Every process calls this in the same order.

        Raises:
            Exception: what `action` raised here.
            OtherRankError: it failed elsewhere; with the rank and its error.
            LostError: see the class.
        """
        if self.exchange is None:
            return action()
        self._depth += 1
        depth, problem, done = self._depth, None, []
        try:
            done.append(action())
        except Exception as error:
            problem = error
        try:
            if self._failure is None:
                with suppress(OtherRankError):  # kept as `_failure`, and dealt with here
                    self._meet("end", problem)
        finally:
            self._depth -= 1
        failure = self._failure
        if failure is None:
            return done[0]
        if failure.depth >= depth:
            self._failure = None
        if problem is not None and not isinstance(problem, OtherRankError):
            raise problem
        raise problem or OtherRankError(failure.text)

    def close(self) -> None:
        """Give the connection back."""
        group, self.group = self.group, None
        if group is not None:
            with suppress(Exception):  # a broken one cannot be
                dist.destroy_process_group(group)

    def _meet(self, plan: str, problem: Exception | None = None) -> None:
        """Go on if all processes are about to do the same and none has failed.

        Raises:
            OtherRankError: on all, until the attempt has ended in which all of them are.
        """
        if self._failure is not None:  # somebody has caught what was raised
            raise OtherRankError(self._failure.text)
        failed = problem is not None
        plans = self._table(self._depth | failed << 8 | zlib.crc32(plan.encode()) << 9)
        if len(set(plans)) == 1 and not failed:
            return
        failures = [rank for rank, code in enumerate(plans) if code >> 8 & 1]
        told = self._texts(repr(problem) if failed else plan)
        if failures:
            text = "; ".join(f"rank {rank}: {told[rank]}" for rank in failures)
        else:
            text = "the processes do different things: " + "; ".join(
                f"rank {rank}: {words}" for rank, words in enumerate(told)
            )
        depth = min(code & 0xFF for code in plans)
        self._failure = _Failure(depth, text) if depth else None
        raise OtherRankError(text)

    def _table(self, value: int) -> list[int]:
        """One integer of each process."""
        table = torch.zeros(self.size, dtype=torch.int64)
        table[self.rank] = value
        return self._send(table).tolist()

    def _texts(self, text: str) -> list[str]:
        table = torch.zeros(self.size, TEXT, dtype=torch.uint8)
        raw = text.encode()[:TEXT]
        table[self.rank, : len(raw)] = torch.frombuffer(bytearray(raw), dtype=torch.uint8)
        rows = (bytes(row.tolist()).rstrip(b"\0") for row in self._send(table))
        return [row.decode(errors="ignore") for row in rows]

    def _send(self, tensor: Tensor) -> Tensor:
        assert self.exchange is not None
        if not self.lost:
            try:
                return self.exchange(tensor)
            except Exception as error:
                self.lost = str(error).partition("\n")[0][:300] or repr(error)
        raise LostError(f"the other processes are lost: {self.lost}")


@dataclass(frozen=True)
class _Failure:
    depth: int  # of the innermost attempt that all processes are in
    text: str


def gloo(deadline: timedelta) -> tuple[Reduce, Any]:
    """What sums tensors of the CPU over all processes of torch.distributed, and its group.

    A group of its own, and gloo's on every device: there what passes the deadline raises in the
    process that waits, while NCCL ends the process, and with it the training. Every process must
    call it.

    Raises:
        RuntimeError: gloo cannot connect; with the remedy.
    """
    try:
        group: Any = dist.new_group(timeout=deadline, backend="gloo")
    except Exception as error:
        raise RuntimeError(
            f"a probe of several processes needs a gloo group, which failed: {error}. Name the "
            "network interface in GLOO_SOCKET_IFNAME, or remove the ProbeCallback."
        ) from error

    def total(tensor: Tensor) -> Tensor:
        dist.all_reduce(tensor, group=group)
        return tensor

    return total, group
