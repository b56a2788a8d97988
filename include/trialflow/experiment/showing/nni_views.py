"""An experiment as NNI's REST interface shows it: the same keys, times in milliseconds, nested values as JSON texts."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from trialflow.builtin import ADVISORS
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

    from trialflow.records import AlgorithmSpec, Change


def show_status(experiment: Experiment) -> JsonObject:
    """``check-status``."""
    failed = experiment.status is ExperimentStatus.ERROR
    return {
        "status": experiment.status.value,
        "errors": [experiment.status_reason] if failed and experiment.status_reason else [],
        "reason": experiment.status_reason,
    }


def show_profile(experiment: Experiment, revision: int, trials_created: int, best: Trial | None) -> JsonObject:
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
        "params": _show_params(experiment),
        "status": experiment.status.value,
        "statusReason": experiment.status_reason,
        "dagId": experiment.owner,
        "warnings": list(experiment.spec.warnings),
        "best": None if best is None else {"id": best.id, "value": best.value, "parameters": best.parameters},
    }


def _show_params(experiment: Experiment) -> JsonObject:
    spec = experiment.spec
    assessor = spec.assessor
    shown: JsonObject = {
        "authorName": spec.author,
        "experimentName": spec.name,
        "description": spec.description,
        "trialConcurrency": experiment.trial_concurrency,
        "maxExecDuration": experiment.max_duration_seconds,
        "maxTrialNum": experiment.max_trial_number,
        "searchSpace": json.dumps(spec.search_space),
        "trainingServicePlatform": spec.platform,
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
        return {name_key: spec.name, "classArgs": spec.class_args}
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


def show_statistics(counts: Mapping[TrialStatus, int]) -> list[JsonObject]:
    """``job-statistics``."""
    return [{"trialJobStatus": status.value, "trialJobNumber": count} for status, count in counts.items()]


def show_trial(trial: Trial, final: Metric | None, output: Path | None = None) -> JsonObject:
    """One of ``trial-jobs``; keys without a value are left out, as in NNI.

    Args:
        trial: The trial.
        final: Its final metric, if it has one.
        output: Where it writes; ``None`` before its job was submitted.
    """
    parameters = []
    if trial.parameters is not None:
        record = parameter_record(trial.number, trial.parameters, is_customized=trial.is_customized)
        parameters.append(json.dumps(record))
    shown = {
        "id": trial.id,  # NNI 1.x
        "trialJobId": trial.id,  # NNI 2.x and 3.x
        "sequenceId": trial.number,
        "status": trial.shown_status.value,
        "startTime": _milliseconds(trial.started_at),
        "endTime": _milliseconds(trial.ended_at if trial.shown_status.is_final else None),
        "hyperParameters": parameters,
        "logPath": output and str(output),
        "stderrPath": output and str(output / "stderr"),
        "finalMetricData": [show_metric(ReportedMetric.of(trial, final))] if final else None,
        "value": trial.value,
        "reason": trial.reason or None,
        "attempt": trial.attempt,
    }
    return {name: value for name, value in shown.items() if value is not None}


def show_metric(reported: ReportedMetric) -> JsonObject:
    """One of ``metric-data``."""
    return {
        "timestamp": _milliseconds(reported.at),
        "trialJobId": reported.trial_id,
        "parameterId": str(reported.number),
        "type": reported.type,
        "sequence": reported.sequence,
        "data": reported.data,
    }


def show_results(trials: Sequence[Trial]) -> list[JsonObject]:
    """``export-data``: the trials with a value, in the form that an import reads."""
    return [
        {"parameter": trial.parameters, "value": trial.value, "id": trial.id}
        for trial in trials
        if trial.value is not None
    ]


def show_change(change: Change) -> JsonObject:
    """One of ``changes``."""
    value: Any = describe_parameters(change.value) if isinstance(change.value, dict) else change.value
    at = _milliseconds(change.at)
    return {"revision": change.revision, "time": at, "who": change.who, "what": change.what, "value": value}


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)
