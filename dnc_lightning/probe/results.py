"""What a probe found, and under which keys it is expected."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from dnc_lightning.probe.measure import Measurement


@dataclass
class ProbeResult:
    """What one probe found, under the keys that are logged."""

    scalars: dict[str, float] = field(default_factory=dict)
    uncalibrated: dict[str, float] = field(default_factory=dict)
    matrices: dict[str, Tensor] = field(
        default_factory=dict
    )  # "{encoder}/{task}/..." -> [C, C], ...
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def update(self, other: ProbeResult) -> None:
        """Add what was found of another set of weights."""
        self.scalars |= other.scalars
        self.uncalibrated |= other.uncalibrated
        self.matrices |= other.matrices
        self.notes += other.notes
        self.warnings += other.warnings

    def file(self, found: Measurement, key: str, place: str) -> None:
        """Add what was found of one encoder and one task: logged under `key`, kept at `place`."""
        self.scalars.update({f"{key}/{k}": v for k, v in found.scalars.items()})
        self.matrices.update({f"{place}/{k}": m for k, m in found.matrices.items()})
        self.notes.extend(f"{key}: {text}" for text in found.notes)
        self.warnings.extend(f"{key}: {text}" for text in found.warnings)


@dataclass
class KnownKeys:
    """Keys that only a probe could tell: a user's metric may give some of its own."""

    further: set[str] = field(default_factory=set)  # seen, beside those that are declared
    absent: set[str] = field(default_factory=set)  # declared, but others came instead

    def expected(self, planned: Collection[str]) -> set[str]:
        """The keys of a probe, as far as known before it."""
        return (set(planned) | self.further) - self.absent

    def complete(
        self, result: ProbeResult, planned: Collection[str], failed: Sequence[str]
    ) -> None:
        """Learn from the keys that came, and give nan under those that are missing.

        Args:
            result: Completed here.
            planned: Keys that are declared.
            failed: Beginnings of keys of what was not measured, and teaches nothing.
        """
        given, expected = set(result.scalars), self.expected(planned)
        measured = {key for key in expected if not key.startswith(tuple(failed))}
        self.absent |= measured - self.further - given
        self.further |= given - expected - self.absent
        for key in given & self.absent:
            del result.scalars[key]
        for key in sorted(self.expected(planned) - given):
            result.scalars[key] = float("nan")
