"""Experiments as NNI's clients expect to see them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trialflow.experiment.showing.nni_views import show_profile, show_trial
from trialflow.experiment.showing.places import output_folder
from trialflow.records import AlgorithmSpec, Experiment, ExperimentStatus, Slot, Trial, TrialStatus, UserClass
from trialflow.testing import make_spec
from trialflow.training import JobRequest, get_training_service


def params_of(tuner: AlgorithmSpec) -> Any:
    spec = make_spec(tuner=tuner)
    experiment = Experiment("expaaaaa", spec, ExperimentStatus.RUNNING, "", "/none", None, 1, 1, 1.0, 0.0, None, None)
    return show_profile(experiment, 0, 0, None)["params"]


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


def test_a_trial_has_the_key_of_each_version_of_nni() -> None:
    shown = show_trial(Trial("expaaaaa", "trial", 7, Slot(1, 0), "run", TrialStatus.RUNNING, 1, 0.0), None)

    assert (shown["id"], shown["trialJobId"], shown["sequenceId"]) == ("trial", "trial", 7)


@pytest.mark.parametrize(
    ("platform", "job", "output"),
    [
        ("local", {"folder": "/e/trials/t1", "host": "here"}, "/e/trials/t1"),
        ("kubeflow", {"folder": "/e/trials/t1", "chief": "worker-0"}, "/e/trials/t1/output/worker-0"),
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
    request = JobRequest("exp", "t1", 3, 1, {"x": 1}, {}, "/code", str(tmp_path), is_customized=True)
    record = json.loads(request.parameter_file)
    assert record == {"parameter_id": 3, "parameter_source": "customized", "parameters": {"x": 1}}
