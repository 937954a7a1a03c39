"""What new samples will err at most, and the labels that an error takes."""

from __future__ import annotations

import math
from dataclasses import replace

from dnc_lightning.functional.bounds import shots_needed
from dnc_lightning.functional.guarantee import block_errors, error_guarantee
from dnc_lightning.functional.needed import LabelsNeeded, labels_needed
from dnc_lightning.functional.summary import TARGET_ERROR
from dnc_lightning.instruments.few_shot import JOINT_CLASSES
from dnc_lightning.probe.bench import Bench
from dnc_lightning.probe.instrument import Found
from dnc_lightning.series import CHANCE, Reference, Series

THOROUGH_PROBES = 2
"""Of a run: its first and its last."""

CONFIDENCE = 0.95
"""Of each guarantee on its own, and of the labels that are guaranteed to be enough."""


def _labels(key: str, title: str, meaning: str) -> Series:
    return Series(
        key=f"labels_needed/{key}",
        title=title,
        meaning=f"{meaning} an error of {TARGET_ERROR}; nan where none of the shots is enough",
        group="Labels needed",
        unit="labels per class",
        low=1.0,
        direction="lower",
        scale="log",
        role="measured" if key.startswith("measured") else "bound",
        thorough=True,
    )


class Guarantee:
    """Holds for the population whatever the features are, for each probe and m on its own.

    Args:
        simultaneous: Hold for all m and for the first and last probe of a run at once: the 5 % are
            shared among them, so that the bounds are a little higher. Each task on its own.
    """

    name = "guarantee"
    series = (
        Series(
            key="guarantee/{m}",
            title="Guaranteed error, m={m}",
            meaning=f"error on new samples that is exceeded with a probability of at most "
            f"{1 - CONFIDENCE:.0%}, if the encoder was not trained on the probe's",
            group="Few-shot error",
            low=0.0,
            high=1.0,
            direction="lower",
            scale="log",
            references=(Reference("chance", CHANCE),),
            role="guarantee",
            thorough=True,
            queries=True,
        ),
        _labels("measured", "Labels needed, measured", "interpolated between shots, for"),
        _labels("measured_low", "Labels needed, low end", "lower end of the 95 % interval, for"),
        _labels("measured_high", "Labels needed, high end", "upper end of the 95 % interval, for"),
        _labels("guaranteed", "Labels needed, guaranteed", "with 95 % confidence, for"),
        _labels(
            "certified",
            "Labels needed, certified",
            "for the probe's own samples, by the certificate or, up to "
            f"{JOINT_CLASSES} classes, the conditional one, for",
        ),
        Series(
            key="labels_needed/more_samples",
            title="Samples until guaranteed",
            meaning="further probe samples per class that a guarantee of an error of "
            f"{TARGET_ERROR} may be expected to take; nan where the measured error is above it",
            group="Labels needed",
            unit="samples per class",
            low=0.0,
            direction="lower",
            thorough=True,
        ),
    )

    def __init__(self, simultaneous: bool = False) -> None:
        self.simultaneous = simultaneous
        if simultaneous:
            first = replace(
                self.series[0],
                meaning="errors on new samples, of which one or more is exceeded with a "
                f"probability of at most {1 - CONFIDENCE:.0%}, at all shots and both probes "
                "together, if the encoder was not trained on the probe's",
            )
            self.series = (first, *self.series[1:])

    def measure(self, bench: Bench) -> Found:
        """Cut the probe into blocks, once for all numbers of shots that leave a query."""
        shots = [m for m in bench.settings.shots if f"guarantee/{m}" in bench.wanted]
        if not bench.thorough or not shots:
            return Found()
        errors = block_errors(
            bench.features,
            bench.labels,
            shots=shots,
            ways=bench.settings.ways,
            shard=bench.shard,
        )
        blocks = dict(zip(shots, errors, strict=True))
        needed = labels_needed(
            blocks,
            TARGET_ERROR,
            confidence=CONFIDENCE,
            certified=_certified(bench),
            samples=min(bench.counts),
        )
        statements = THOROUGH_PROBES * len(shots) if self.simultaneous else 1
        confidence = 1 - (1 - CONFIDENCE) / statements
        bounds = {
            f"guarantee/{m}": float(error_guarantee(e, confidence)) for m, e in blocks.items()
        }
        return Found(bounds | _numbers(needed), notes=_advice(needed))


def _certified(bench: Bench) -> int | None:
    """The least number of shots of either certificate; None without a second sample of a class."""
    if min(bench.counts) < 2:
        return None
    ways = bench.settings.ways
    found = [shots_needed(bench.geometry, TARGET_ERROR, ways=ways)]
    if len(bench.classes) <= JOINT_CLASSES:
        found.append(bench.query_margins.shots_needed(TARGET_ERROR, ways))
    return min((m for m in found if m is not None), default=None)


def _numbers(needed: LabelsNeeded) -> dict[str, float]:
    values = {
        "measured": needed.measured,
        "measured_low": needed.measured_low,
        "measured_high": needed.measured_high,
        "guaranteed": needed.guaranteed,
        "certified": needed.certified,
        "more_samples": needed.more_samples,
    }
    return {
        f"labels_needed/{key}": math.nan if value is None else float(value)
        for key, value in values.items()
    }


def _advice(needed: LabelsNeeded) -> list[str]:
    if not needed.more_samples:
        return []
    return [
        f"An error of {TARGET_ERROR} is not guaranteed for new data at any number of shots: with "
        f"about {needed.more_samples} more samples per class in the probe it may be expected to be."
    ]


INSTRUMENT = Guarantee()
