"""What an experiment tells of its trials, by NNI's names."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass
class TrialResult:
    """The parameters of a trial, and its final metric as it was reported."""

    parameter: dict[str, Any]
    value: Any
    trialJobId: str

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> TrialResult:
        """One of ``export-data``."""
        return cls(item["parameter"], json.loads(item["value"]), item["trialJobId"])


@dataclass
class TrialMetricData:
    """A metric that a trial has reported.

    Attributes:
        timestamp: In milliseconds.
        type: ``PERIODICAL`` or ``FINAL``.
        data: As it was reported.
    """

    timestamp: int
    trialJobId: str
    parameterId: str
    type: str
    sequence: int
    data: Any

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> TrialMetricData:
        """One of ``metric-data``."""
        return cls(**{**item, "data": json.loads(json.loads(item["data"]))})


@dataclass
class TrialHyperParameters:
    """What a trial was given."""

    parameter_id: int
    parameter_source: str
    parameters: dict[str, Any]
    parameter_index: int = 0
    placement_constraint: dict[str, Any] | None = None
    version_info: dict[str, Any] | None = None


@dataclass
class TrialJob:
    """A trial; times are in milliseconds."""

    trialJobId: str
    status: str
    hyperParameters: list[TrialHyperParameters] = field(default_factory=list)
    logPath: str = ""
    startTime: int = -1
    endTime: int = -1
    finalMetricData: list[TrialMetricData] = field(default_factory=list)
    stderrPath: str = ""
    sequenceId: int = -1
    message: str = "--"

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> TrialJob:
        """One of ``trial-jobs``; what NNI's trials do not have is left out."""
        known: dict[str, Any] = {key: value for key, value in item.items() if key in cls.__dataclass_fields__}
        known["hyperParameters"] = [TrialHyperParameters(**json.loads(text)) for text in item["hyperParameters"]]
        known["finalMetricData"] = [TrialMetricData.of(metric) for metric in item.get("finalMetricData", [])]
        return cls(**known)
