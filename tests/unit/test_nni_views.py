"""Experiments as NNI's clients expect to see them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trialflow.experiment.showing.folders import output_folder
from trialflow.experiment.showing.nni_views import NniClient, show_metadata, show_profile, show_results, show_trial
from trialflow.records import (
    AlgorithmSpec,
    Experiment,
    ExperimentStatus,
    Metric,
    MetricType,
    Slot,
    Trial,
    TrialStatus,
    UserClass,
)
from trialflow.testing import make_spec
from trialflow.training import JobRequest, get_training_service


def experiment_of(tuner: AlgorithmSpec) -> Experiment:
    spec = make_spec(tuner=tuner)
    return Experiment("expaaaaa", spec, ExperimentStatus.RUNNING, "", "/none", None, 1, 1, 1.0, 0.0, None, None)


def params_of(tuner: AlgorithmSpec, version: str | None = None) -> Any:
    return show_profile(experiment_of(tuner), 0, 0, None, NniClient.of(version))["params"]


@pytest.mark.parametrize(
    ("tuner", "section", "name"),
    [
        (AlgorithmSpec("TPE"), "tuner", ("builtinTunerName", "TPE")),
        (AlgorithmSpec("BOHB"), "advisor", ("builtinAdvisorName", "BOHB")),
        (AlgorithmSpec("Mine", user_class=UserClass("tuner", "/c", "/c", "m", "Mine")), "tuner", ("className", "Mine")),
        (AlgorithmSpec("BOHB", user_class=UserClass("tuner", "/c", "/c", "m", "BOHB")), "tuner", ("className", "BOHB")),
        (
            AlgorithmSpec("Mine", user_class=UserClass("advisor", "/c", "/c", "m", "Mine")),
            "advisor",
            ("className", "Mine"),
        ),
    ],
)
def test_an_advisor_is_shown_as_an_advisor(tuner: AlgorithmSpec, section: str, name: tuple[str, str]) -> None:
    params = params_of(tuner)

    assert {key for key in ("tuner", "advisor") if key in params} == {section}
    assert name in params[section].items()


TRIAL = Trial(
    "expaaaaa", "trial", 7, Slot(1, 0), "run", TrialStatus.SUCCEEDED, 1, 1.5, parameters={"x": 0.5},
    ended_at=4.0, value=0.25,
)  # fmt: skip
FINAL = Metric(MetricType.FINAL, 0, {"default": 0.25, "loss": [1, 2]}, 3.0)
# What the data classes of NNI's own clients take, by the names of their arguments.
TRIAL_KEYS = {"trialJobId", "status", "startTime", "sequenceId", "logPath", "endTime", "stderrPath", "hyperParameters",
              "finalMetricData", "message"}  # fmt: skip
METRIC_KEYS = {"timestamp", "trialJobId", "parameterId", "type", "sequence", "data"}
PARAMETER_KEYS = {"parameter_id", "parameter_source", "parameters", "parameter_index"}


@pytest.mark.parametrize("version", [None, "1.3", "2.10", "3.0"])
def test_a_trial_has_what_the_client_of_a_version_reads(version: str | None) -> None:
    shown = show_trial(TRIAL, FINAL, Path("/shared/trial"), NniClient.of(version))

    (metric,) = shown["finalMetricData"]
    (parameters,) = map(json.loads, shown["hyperParameters"])
    data = json.loads(metric["data"])
    assert (data if version == "1.3" else json.loads(data)) == FINAL.value
    assert (shown.keys() == TRIAL_KEYS - {"message"}) is (version in ("2.10", "3.0"))
    assert shown.get("id", shown["trialJobId"]) == "trial"
    assert ("id" in shown) is (version in (None, "1.3"))
    assert (metric.keys(), parameters.keys()) == (METRIC_KEYS, PARAMETER_KEYS)
    assert (shown["sequenceId"], shown["logPath"], shown["endTime"]) == (7, "/shared/trial", 4000)
    assert parameters["parameters"] == {"x": 0.5}


def test_a_trial_that_waits_started_when_it_was_claimed_and_says_what_for() -> None:
    waiting = replace(TRIAL, status=TrialStatus.WAITING, ended_at=None, value=None, reason="no node has room")

    shown = show_trial(waiting, None, client=NniClient.V2)

    assert (shown["startTime"], shown["message"]) == (1500, "no node has room")
    assert not {"endTime", "finalMetricData"} & shown.keys()


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("1.3", {"value": {"default": 0.25, "loss": [1, 2]}, "id": "trial"}),
        ("2.10", {"value": '{"default": 0.25, "loss": [1, 2]}', "trialJobId": "trial"}),
        (None, {"value": '{"default": 0.25, "loss": [1, 2]}', "trialJobId": "trial"}),
    ],
)
def test_results_are_exported_with_the_whole_metric(version: str | None, expected: dict[str, Any]) -> None:
    without = replace(TRIAL, id="other", value=None)

    shown = show_results([TRIAL, without], {"trial": FINAL, "other": FINAL}, NniClient.of(version))

    assert shown == [{"parameter": {"x": 0.5}, **expected}]


def test_a_profile_has_the_keys_of_every_version() -> None:
    params = params_of(AlgorithmSpec("TPE"))

    assert (params["maxTrialNum"], params["maxTrialNumber"]) == (1, 1)
    assert (params["maxExecDuration"], params["maxExperimentDuration"]) == (1.0, 1.0)
    assert params["trainingService"] == {"platform": "local"}
    assert (params["tuner"]["name"], params["tuner"]["builtinTunerName"]) == ("TPE", "TPE")


@pytest.mark.parametrize(("version", "kind"), [(None, str), ("1.3", str), ("2.10", dict), ("3.0", dict)])
def test_a_search_space_is_a_text_only_for_nni_1(version: str | None, kind: type) -> None:
    assert isinstance(params_of(AlgorithmSpec("TPE"), version)["searchSpace"], kind)


def test_an_experiment_is_listed_with_the_keys_of_nni_s_list() -> None:
    running = show_metadata(experiment_of(AlgorithmSpec("TPE")))
    ended = show_metadata(replace(experiment_of(AlgorithmSpec("TPE")), ended_at=2.0))

    assert {"id", "port", "startTime", "endTime", "status", "platform", "experimentName", "tag", "pid", "webuiUrl",
            "logDir", "prefixUrl"} <= running.keys()  # fmt: skip
    assert (running["endTime"], ended["endTime"], running["logDir"]) == ("N/A", 2000, "/none")


KUBEFLOW_JOB = {"folder": "/e/trials/t1", "chief": "worker-0", "collection": "/apis/x", "name": "t1-1",
                "namespace": "n", "container": "tensorflow", "memory_mb": 1}  # fmt: skip


@pytest.mark.parametrize(
    ("platform", "job", "output"),
    [
        ("local", {"folder": "/e/trials/t1", "host": "here"}, "/e/trials/t1"),
        ("kubeflow", KUBEFLOW_JOB, "/e/trials/t1/output/worker-0"),
    ],
)
def test_a_trial_s_output_is_shown_where_its_replica_writes(platform: str, job: dict[str, str], output: str) -> None:
    spec = make_spec(platform=platform)
    experiment = Experiment("expaaaaa", spec, ExperimentStatus.RUNNING, "", "/e", None, 1, 1, 1.0, 0.0, None, None)
    trial = Trial("expaaaaa", "t1", 0, Slot(1, 0), "run", TrialStatus.RUNNING, 1, 0.0, job=job)
    folder = output_folder(experiment, trial, get_training_service(platform))
    shown = show_trial(trial, None, folder)
    assert (shown["logPath"], shown["stderrPath"]) == (output, f"{output}/stderr")


def test_the_parameters_that_a_person_gave_are_the_trial_s_own_word_for_it(tmp_path: Path) -> None:
    request = JobRequest("exp", "t1", 3, 1, {"x": 1}, None, "/code", str(tmp_path), is_customized=True)
    record = json.loads(request.parameter_file)
    assert record == {"parameter_id": 3, "parameter_source": "customized", "parameters": {"x": 1}}
