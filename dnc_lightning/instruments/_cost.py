"""What a probe costs, which the callback measures."""

from __future__ import annotations

from dnc_lightning.series import Series

COST = (
    Series(
        key="seconds",
        title="Time of a probe",
        meaning="of the last probe",
        group="Cost",
        unit="s",
        low=0.0,
        direction="lower",
        scope="probe",
    ),
    Series(
        key="overhead",
        title="Share of probing",
        meaning="part of the wall time so far that probing took",
        group="Cost",
        low=0.0,
        high=1.0,
        direction="lower",
        scope="probe",
    ),
)
