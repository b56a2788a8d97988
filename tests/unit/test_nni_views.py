"""Experiments as NNI's clients expect to see them."""

from __future__ import annotations

from typing import Any

import pytest

from trialflow.experiment.showing.nni_views import show_profile, show_trial
from trialflow.records import AlgorithmSpec, Experiment, ExperimentStatus, Slot, Trial, TrialStatus, UserClass
from trialflow.testing import make_spec


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
