"""An experiment as NNI's REST interface shows it: the same keys, times in milliseconds, nested values as JSON texts.

NNI's versions do not agree on everything. What NNI 3.0's own client reads is shown, and beside it the keys of NNI 1.x
wherever that client puts up with them. `NniClient` says what else a client may ask for.
"""

from __future__ import annotations

import json
import time
from enum import IntEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from trialflow.builtin import ADVISORS
from trialflow.config.keys import v2_platform
from trialflow.records import (
    Experiment,
    ExperimentStatus,
    JsonObject,
    Metric,
    Trial,
    TrialStatus,
    describe_parameters,
    parameter_record,
)
from trialflow.store import ReportedMetric

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from trialflow.records import AlgorithmSpec, Change, KnownPoint


class NniClient(IntEnum):
    """The version of NNI whose client asks.

    NNI 1.x encodes a metric as JSON once, and later versions do so twice. NNI 2.x takes no key that it does not know.
    """

    UNKNOWN = 0
    V1 = 1
    V2 = 2
    V3 = 3

    @classmethod
    def of(cls, version: str | None) -> NniClient:
        """The client of a version such as ``2.10``."""
        return cls(int(version.partition(".")[0])) if version else cls.UNKNOWN


def show_status(experiment: Experiment) -> JsonObject:
    """``check-status``."""
    failed = experiment.status is ExperimentStatus.ERROR
    return {
        "status": experiment.status.value,
        "errors": [experiment.status_reason] if failed and experiment.status_reason else [],
        "reason": experiment.status_reason,
    }


def show_profile(
    experiment: Experiment,
    revision: int,
    trials_created: int,
    best: Trial | None,
    client: NniClient = NniClient.UNKNOWN,
) -> JsonObject:
    """``experiment``; what Trialflow knows besides follows NNI's own keys."""
    return {
        "id": experiment.id,
        "revision": revision,
        "execDuration": round(experiment.duration_seconds(time.time())),
        "logDir": experiment.folder,
        "startTime": _milliseconds(experiment.started_at or experiment.created_at),
        "endTime": _milliseconds(experiment.ended_at),
        "nextSequenceId": trials_created,
        "maxSequenceId": trials_created - 1,
        "params": _show_params(experiment, client),
        "status": experiment.status.value,
        "statusReason": experiment.status_reason,
        "dagId": experiment.owner,
        "warnings": list(experiment.spec.warnings),
        "best": None if best is None else {"id": best.id, "value": best.value, "parameters": best.parameters},
    }


def _show_params(experiment: Experiment, client: NniClient) -> JsonObject:
    """The parameters with the keys of NNI 1.x, then those of later versions."""
    spec = experiment.spec
    assessor = spec.assessor
    shown: JsonObject = {
        "authorName": spec.author,
        "experimentName": spec.name,
        "description": spec.description,
        "trialConcurrency": experiment.trial_concurrency,
        "maxExecDuration": experiment.max_duration_seconds,
        "maxTrialNum": experiment.max_trial_number,
        "searchSpace": spec.search_space if client >= NniClient.V2 else json.dumps(spec.search_space),
        "trainingServicePlatform": spec.platform,
        "maxExperimentDuration": experiment.max_duration_seconds,
        "maxTrialNumber": experiment.max_trial_number,
        "trialCodeDirectory": spec.code_directory,
        "trainingService": {"platform": v2_platform(spec.platform)},
        **_show_suggesting(spec.tuner),
    }
    if assessor is not None:
        shown["assessor"] = _show_algorithm(assessor, "builtinAssessorName")
    return shown


def _show_suggesting(spec: AlgorithmSpec) -> JsonObject:
    """The tuner, or the advisor that stands in its place; each under the key that it has in NNI."""
    is_advisor = spec.name in ADVISORS if spec.user_class is None else spec.user_class.kind == "advisor"
    if is_advisor:
        return {"advisor": _show_algorithm(spec, "builtinAdvisorName")}
    return {"tuner": _show_algorithm(spec, "builtinTunerName")}


def _show_algorithm(spec: AlgorithmSpec, name_key: str) -> JsonObject:
    if spec.user_class is None:
        return {name_key: spec.name, "name": spec.name, "classArgs": spec.class_args}
    file = f"{spec.user_class.module.replace('.', '/')}.py"
    where = {"codeDir": spec.user_class.code_directory, "classFileName": file, "className": spec.user_class.class_name}
    return {**where, "classArgs": spec.class_args}


def show_summary(experiment: Experiment) -> JsonObject:
    """An experiment in a list of them."""
    return {
        "id": experiment.id,
        "experimentName": experiment.spec.name,
        "status": experiment.status.value,
        "platform": experiment.spec.platform,
        "trialConcurrency": experiment.trial_concurrency,
        "maxTrialNum": experiment.max_trial_number,
        "startTime": _milliseconds(experiment.started_at or experiment.created_at),
        "endTime": _milliseconds(experiment.ended_at),
        "dagId": experiment.owner,
    }


def show_metadata(experiment: Experiment) -> JsonObject:
    """One of ``experiments-info``; no process and no port belongs to an experiment."""
    ended_at = _milliseconds(experiment.ended_at)
    return {
        **show_summary(experiment),
        "endTime": "N/A" if ended_at is None else ended_at,
        "logDir": experiment.folder,
        "tag": [],
        "webuiUrl": [],
        "port": None,
        "pid": None,
        "prefixUrl": None,
    }


def show_statistics(counts: Mapping[TrialStatus, int]) -> list[JsonObject]:
    """``job-statistics``."""
    return [{"trialJobStatus": status.value, "trialJobNumber": count} for status, count in counts.items()]


def show_trial(
    trial: Trial, final: Metric | None, output: Path | None = None, client: NniClient = NniClient.UNKNOWN
) -> JsonObject:
    """One of ``trial-jobs``; keys without a value are left out, as in NNI.

    Args:
        trial: The trial.
        final: Its final metric, if it has one.
        output: Where it writes; ``None`` before its job was submitted.
        client: Who asks.
    """
    shown = {
        "trialJobId": trial.id,
        "sequenceId": trial.number,
        "status": trial.shown_status.value,
        # As in NNI, a trial's time counts from its submission until it runs.
        "startTime": _milliseconds(trial.started_at or trial.claimed_at),
        "endTime": _milliseconds(trial.ended_at if trial.shown_status.is_final else None),
        "hyperParameters": [] if trial.parameters is None else [json.dumps(_show_parameters(trial))],
        "logPath": output and str(output),
        "stderrPath": output and str(output / "stderr"),
        "finalMetricData": [show_metric(ReportedMetric.of(trial, final), client)] if final else None,
        "message": trial.reason or None,
    }
    if client < NniClient.V2:
        ours = {"value": trial.value, "reason": trial.reason or None, "attempt": trial.attempt}
        shown = {"id": trial.id, **shown, **ours}
    return {name: value for name, value in shown.items() if value is not None}


def _show_parameters(trial: Trial) -> JsonObject:
    assert trial.parameters is not None
    record = parameter_record(trial.number, trial.parameters, is_customized=trial.is_customized)
    return {**record, "parameter_index": 0}  # A trial of NNI's multi-phase kind would count its parameters by it.


def show_metric(reported: ReportedMetric, client: NniClient = NniClient.UNKNOWN) -> JsonObject:
    """One of ``metric-data``."""
    return {
        "timestamp": _milliseconds(reported.at),
        "trialJobId": reported.trial_id,
        "parameterId": str(reported.number),
        "type": reported.type,
        "sequence": reported.sequence,
        "data": reported.data if client is NniClient.V1 else json.dumps(reported.data),
    }


def show_results(
    trials: Sequence[Trial], finals: Mapping[str, Metric] = MappingProxyType({}), client: NniClient = NniClient.UNKNOWN
) -> list[JsonObject]:
    """``export-data``: the trials with a value, in the form that an import reads.

    Args:
        trials: The trials.
        finals: By trial id, the final metric, which may hold more than the value that counts.
        client: NNI 1.x's gets the metric as it is, and later ones get it as a JSON text.
    """
    shown = []
    for trial in trials:
        if trial.value is not None:
            whole = finals[trial.id].value if trial.id in finals else trial.value
            if client is NniClient.V1:
                shown.append({"parameter": trial.parameters, "value": whole, "id": trial.id})
            else:
                shown.append({"parameter": trial.parameters, "value": json.dumps(whole), "trialJobId": trial.id})
    return shown


def show_imported(point: KnownPoint) -> str:
    """One of ``imported-data``: the JSON text of what one import may have brought."""
    return json.dumps([{"parameter": point.parameters, "value": point.value}])


def show_change(change: Change) -> JsonObject:
    """One of ``changes``."""
    value: Any = describe_parameters(change.value) if isinstance(change.value, dict) else change.value
    at = _milliseconds(change.at)
    return {"revision": change.revision, "time": at, "who": change.who, "what": change.what, "value": value}


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)
