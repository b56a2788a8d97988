"""How a trial is called where there is little room."""

from __future__ import annotations

from typing import Any

import pytest

from trialflow.experiment.showing.labels import task_label
from trialflow.records import Slot, Trial, TrialStatus, describe_parameters


def make_trial(**changes: Any) -> Trial:
    values = {"number": 7, "status": TrialStatus.WAITING, "parameters": {"x": 0.5}, **changes}
    return Trial(
        experiment_id="exp12345", id="abcde", slot=Slot(1, 0), run_id="run", attempt=1, claimed_at=0.0, **values
    )


@pytest.mark.parametrize(
    ("changes", "label"),
    [
        ({}, "#7 abcde x=0.5"),
        ({"reason": "no\nroom"}, "#7 abcde x=0.5: no room"),
        ({"ended_at": 1.0, "status": TrialStatus.FAILED, "reason": "exit code 1"}, "#7 abcde x=0.5 → FAILED"),
        ({"ended_at": 1.0, "status": TrialStatus.SUCCEEDED, "value": 0.123456789}, "#7 abcde x=0.5 → 0.123457"),
    ],
)
def test_a_task_s_label_says_what_the_trial_waits_for_or_has_come_to(changes: dict[str, Any], label: str) -> None:
    assert task_label(make_trial(**changes)) == label


@pytest.mark.parametrize("ended_at", [None, 1.0])
def test_a_task_s_label_fits_into_airflow_s_column(ended_at: float | None) -> None:
    trial = make_trial(parameters={"x": "y" * 200}, reason="r" * 200, number=10**8, ended_at=ended_at)
    assert len(task_label(trial)) <= 250


def test_parameters_stay_on_one_line_that_a_database_takes() -> None:
    assert describe_parameters({"x": "a\x00b\ud800c\nd"}) == "x=a b c d"
