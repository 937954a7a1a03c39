"""The error with few labels: measured, and bounded."""

from __future__ import annotations

from functools import partial

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
"""Most classes of a task whose joint and conditional certificates a probe computes."""

_series = partial(Series, group="Few-shot error", low=0.0, direction="lower")
_error = partial(_series, scale="log", references=(Reference("chance", CHANCE),))


class FewShot:
    """How often the nearest class centre errs with m labelled samples per class."""

    name = "few_shot"
    series = (
        _error(
            "few_shot_error/{m}",
            "Measured error, m={m}",
            "error of the nearest class centre with m labels per class",
            high=1.0,
            role="measured",
            queries=True,
        ),
        _series(
            "few_shot_error_se/{m}",
            "Standard error, m={m}",
            "of the measured error, over episodes",
            direction=None,  # a small one is no merit of the encoder
            queries=True,
        ),
        _error(
            "certificate/{m}",
            "Certificate, m={m}",
            "bound on the error of the probe set, from the exact variance of every margin",
            high=1.0,
            role="certificate",
        ),
        *(
            _error(
                f"certificate_{end}/{{m}}",
                f"Certificate, {end} end, m={{m}}",
                f"{edge} end of the 95 % interval for the population's certificate",
                role="certificate",
                thorough=True,
            )
            for end, edge in (("low", "lower"), ("high", "upper"))
        ),
        _error(
            "joint/{m}",
            "Joint certificate, m={m}",
            "the certificate, sharpened by the joint covariance of the margins",
            high=1.0,
            role="joint",
            thorough=True,
            most_classes=JOINT_CLASSES,
        ),
        _error(
            "conditional/{m}",
            "Conditional certificate, m={m}",
            "the certificate of every query on its own: sharper for many shots",
            high=1.0,
            role="conditional",
            thorough=True,
            most_classes=JOINT_CLASSES,
        ),
        *(
            _error(
                f"{key}/{{m}}",
                f"{title}, m={{m}}",
                f"the published bound of {paper}, unclipped; nan where two classes have the same "
                "mean",
                role=key,
            )
            for key, title, paper in (
                ("theorem_4_1", "Theorem 4.1", "arXiv:2603.03530"),
                ("luthra_2025", "2025 bound", "its predecessor"),
            )
        ),
        _series(
            "shots_needed",
            "Shots needed",
            f"least m with a certificate of at most {TARGET_ERROR}; nan if none",
            unit="labels per class",
            low=1.0,
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
        conditional = [m for m in shots if f"conditional/{m}" in bench.wanted]
        if conditional:
            bounds = bench.query_margins.bound(conditional, ways)
            scalars |= {f"conditional/{m}": b for m, b in zip(conditional, bounds, strict=True)}
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
