"""The error with few labels: measured, and bounded."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dnc_lightning.functional import bound_summary, few_shot_bound
from dnc_lightning.functional.few_shot import ncc_errors
from dnc_lightning.functional.summary import TARGET_ERROR
from dnc_lightning.probe.bench import Bench
from dnc_lightning.probe.instrument import Found
from dnc_lightning.series import CHANCE, Reference, Series

EPISODES = 10
"""Few-shot episodes of a probe; each classifies all samples but its supports."""

JOINT_CLASSES = 32
"""Most classes of a task whose joint certificate a probe computes."""

_ERROR: dict[str, Any] = {
    "group": "Few-shot error",
    "low": 0.0,
    "direction": "lower",
    "scale": "log",
    "references": (Reference("chance", CHANCE),),
}


class FewShot:
    """How often the nearest class centre errs with m labelled samples per class."""

    name = "few_shot"
    series = (
        Series(
            key="few_shot_error/{m}",
            title="Measured error, m={m}",
            meaning="error of the nearest class centre with m labels per class",
            high=1.0,
            role="measured",
            queries=True,
            **_ERROR,
        ),
        Series(
            key="few_shot_error_se/{m}",
            title="Standard error, m={m}",
            meaning="of the measured error, over episodes",
            group="Few-shot error",
            low=0.0,
            direction="lower",
            queries=True,
        ),
        Series(
            key="certificate/{m}",
            title="Certificate, m={m}",
            meaning="bound on the error of the probe set, from the exact variance of every margin",
            high=1.0,
            role="certificate",
            **_ERROR,
        ),
        *(
            Series(
                key=f"certificate_{end}/{{m}}",
                title=f"Certificate, {end} end, m={{m}}",
                meaning=f"{edge} end of the 95 % interval for the population's certificate",
                role="certificate",
                thorough=True,
                **_ERROR,
            )
            for end, edge in (("low", "lower"), ("high", "upper"))
        ),
        Series(
            key="joint/{m}",
            title="Joint certificate, m={m}",
            meaning="the certificate, sharpened by the joint covariance of the margins",
            high=1.0,
            role="joint",
            thorough=True,
            most_classes=JOINT_CLASSES,
            **_ERROR,
        ),
        Series(
            key="theorem_4_1/{m}",
            title="Theorem 4.1, m={m}",
            meaning="the published bound of arXiv:2603.03530, unclipped; nan where two classes "
            "have the same mean",
            role="theorem_4_1",
            **_ERROR,
        ),
        Series(
            key="luthra_2025/{m}",
            title="2025 bound, m={m}",
            meaning="the published bound of its predecessor, unclipped; nan where two classes have "
            "the same mean",
            role="luthra_2025",
            **_ERROR,
        ),
        Series(
            key="shots_needed",
            title="Shots needed",
            meaning=f"least m with a certificate of at most {TARGET_ERROR}; nan if none",
            group="Few-shot error",
            unit="labels per class",
            low=1.0,
            direction="lower",
            scale="log",
            role="certificate",
        ),
    )

    def measure(self, bench: Bench) -> Found:
        """Bound the error, measure it, and at thorough probes sharpen and estimate the bound."""
        geometry, shots, ways = bench.geometry, bench.settings.shots, bench.settings.ways
        scalars = bound_summary(geometry, shots, ways)
        if bench.thorough:
            ends = bench.intervals.items()
            scalars |= {key: end for key, end in ends if key.startswith("certificate")}
        several = int(geometry.count.min()) > 1
        for m in shots:
            if f"joint/{m}" in bench.wanted:
                bound = few_shot_bound(geometry, m, kind="joint", ways=ways)
                scalars[f"joint/{m}"] = bound if several else bound * torch.nan
        return Found(scalars | _measured(bench))


INSTRUMENT = FewShot()


def _measured(bench: Bench) -> dict[str, Tensor]:
    """The errors of the numbers of shots that leave a query in every class."""
    shots = [m for m in bench.settings.shots if f"few_shot_error/{m}" in bench.wanted]
    if not shots:
        return {}
    mean, error = ncc_errors(
        bench.features,
        bench.labels,
        shots=shots,
        ways=bench.settings.ways,
        episodes=EPISODES,
        shard=bench.shard,
    )
    found = {f"few_shot_error/{m}": mean[s] for s, m in enumerate(shots)}
    return found | {f"few_shot_error_se/{m}": error[s] for s, m in enumerate(shots)}
