"""Every assessor against the contract, and its rule as a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trialflow.assessors import Assessor, check_assessor, get_assessor
from trialflow.errors import Problem, TunerError
from trialflow.experiment import ExperimentManager
from trialflow.records import AlgorithmSpec, JsonObject, Metric, MetricType, Outcome, Slot, Trial, TrialStatus
from trialflow.settings import Settings
from trialflow.testing import AssessorContract, make_spec

ASSESSORS: dict[str, JsonObject] = {
    "Medianstop": {},
    "Curvefitting": {"epoch_num": 12},
    "SuccessiveHalving": {"min_resource": 2, "reduction_factor": 2},
}


def assessor_of(name: str, **class_args: Any) -> Assessor:
    return get_assessor(AlgorithmSpec(name, class_args))


def problems_of(name: str, class_args: JsonObject) -> list[Problem]:
    def place(field: tuple[str, ...], rule: str, value: str | None, remedy: str) -> Problem:
        return Problem(".".join(field), rule, value, remedy)

    return check_assessor(AlgorithmSpec(name, class_args), place)


@pytest.mark.parametrize("name", ASSESSORS)
class TestAssessor(AssessorContract):
    @pytest.fixture
    def assessor(self, name: str) -> Assessor:
        return assessor_of(name, **ASSESSORS[name])


@pytest.mark.parametrize(
    ("mode", "history", "completed", "good"),
    [
        # One completed trial: its running average at the same step is the median.
        ("maximize", [0.4], [[0.5]], False),
        ("maximize", [0.5], [[0.5]], True),
        ("minimize", [0.6], [[0.5]], False),
        ("minimize", [0.5], [[0.5]], True),
        # Odd number: the middle one.
        ("maximize", [0.4], [[0.1], [0.5], [0.9]], False),
        ("maximize", [0.6], [[0.9], [0.1], [0.5]], True),
        ("minimize", [0.6], [[0.1], [0.5], [0.9]], False),
        ("minimize", [0.4], [[0.9], [0.1], [0.5]], True),
        # Even number: the lower middle one when maximising, the upper one when minimising; never their mean.
        ("maximize", [0.4], [[0.1], [0.3], [0.7], [0.9]], True),
        ("maximize", [0.2], [[0.1], [0.3], [0.7], [0.9]], False),
        ("minimize", [0.6], [[0.1], [0.3], [0.7], [0.9]], True),
        ("minimize", [0.8], [[0.1], [0.3], [0.7], [0.9]], False),
        # Averages of the completed trials, up to the step that the trial has reached and no further.
        ("maximize", [0.0, 0.4], [[0.2, 0.8, 9.0]], False),
        ("maximize", [0.0, 0.5], [[0.2, 0.8, 9.0]], True),
        # The trial's best metric so far counts, not its last one.
        ("maximize", [0.9, 0.1], [[0.5, 0.5]], True),
        ("minimize", [0.1, 0.9], [[0.5, 0.5]], True),
        # Completed trials that reported fewer metrics than the trial are no measure.
        ("maximize", [0.1, 0.1], [[0.9]], True),
        ("maximize", [0.1, 0.1], [[0.9], [0.9, 0.9, 0.9], [0.2]], False),
        ("maximize", [0.1], [[]], True),
        ("maximize", [0.1], [], True),
    ],
)
def test_medianstop_compares_the_best_metric_with_the_median_of_the_running_averages(
    mode: str, history: list[float], completed: list[list[float]], good: bool
) -> None:
    assert assessor_of("Medianstop", optimize_mode=mode).is_good(history, completed) is good


def test_medianstop_maximises_unless_told_otherwise() -> None:
    assert assessor_of("Medianstop").is_good([0.6], [[0.5]])
    assert not assessor_of("Medianstop").is_good([0.4], [[0.5]])


@pytest.mark.parametrize(("start_step", "judged_from"), [(0, 1), (1, 1), (3, 3)])
def test_medianstop_judges_from_its_start_step_on(start_step: int, judged_from: int) -> None:
    assessor = assessor_of("Medianstop", start_step=start_step)

    verdicts = [assessor.is_good([0.1] * step, [[0.9] * 5]) for step in range(1, 6)]

    assert verdicts == [step < judged_from for step in range(1, 6)]


@pytest.mark.parametrize("start_step", [0, 1, 2, 3])
@pytest.mark.parametrize(
    ("history", "good"), [([0.1], True), ([0.1, 0.2], True), ([0.1, 0.2, 0.3], False), ([0.1, 0.2, 0.3, 0.35], False)]
)
def test_curvefitting_fits_no_curve_that_needs_more_metrics_than_there_are(
    start_step: int, history: list[float], good: bool
) -> None:
    assessor = assessor_of("Curvefitting", epoch_num=12, start_step=start_step)

    assert assessor.is_good(history, [[0.2, 0.9]]) is (good or len(history) < start_step)


@pytest.mark.parametrize(
    "status", [TrialStatus.FAILED, TrialStatus.EARLY_STOPPED, TrialStatus.USER_CANCELED, TrialStatus.SYS_CANCELED]
)
def test_only_trials_that_succeeded_are_a_measure(tmp_path: Path, status: TrialStatus) -> None:
    manager = ExperimentManager.create("expaaaaa", make_spec(trial_concurrency=9), Settings(home=tmp_path))
    manager.start()

    def end(index: int, ending: TrialStatus, metrics: list[float]) -> Trial:
        trial = manager.store.claim(manager.id, Slot(1, index), "run")
        assert isinstance(trial, Trial)
        reported = [Metric(MetricType.PERIODICAL, step, value, 1.0) for step, value in enumerate(metrics)]
        manager.store.add_metrics(trial, [*reported, Metric(MetricType.FINAL, 0, 7.0, 1.0)])
        manager.store.set_ended(trial, Outcome(ending), None)
        return trial

    end(0, TrialStatus.SUCCEEDED, [0.2, 0.3])
    end(1, status, [0.9, 0.9])
    end(2, TrialStatus.SUCCEEDED, [0.4])
    itself = end(3, TrialStatus.SUCCEEDED, [0.5])

    assert sorted(manager.histories(assessor_of("Medianstop"), itself)) == [[0.2, 0.3], [0.4]]
    assert sorted(manager.histories(assessor_of("SuccessiveHalving"), itself)) == [[0.2, 0.3], [0.4], [0.9, 0.9]]


@pytest.mark.parametrize(
    ("name", "class_args"),
    [("Medianstop", {}), ("Medianstop", {"optimize_mode": "minimize", "start_step": 5})],
)
def test_class_arguments_of_nni_are_accepted(name: str, class_args: JsonObject) -> None:
    assert problems_of(name, class_args) == []


@pytest.mark.parametrize(
    ("name", "class_args", "field", "value"),
    [
        ("Medianstop", {"optimize_mode": "up"}, "optimize_mode", '"up"'),
        ("Medianstop", {"start_step": -1}, "start_step", "-1"),
        ("Medianstop", {"start_step": 1.5}, "start_step", "1.5"),
        ("Medianstop", {"start_step": "many"}, "start_step", '"many"'),
    ],
)
def test_a_wrong_class_argument_is_refused(name: str, class_args: JsonObject, field: str, value: str) -> None:
    (problem,) = problems_of(name, class_args)

    assert problem.field == f"assessor.classArgs.{field}"
    assert problem.rule.startswith(f"{name}: ")
    assert problem.value == value
    assert problem.remedy.startswith(f"Arguments of {name}: ")


def test_an_unknown_assessor_is_refused_with_those_there_are() -> None:
    (problem,) = problems_of("Median", {})

    assert (problem.field, problem.value) == ("assessor.builtinAssessorName", "Median")
    assert "Medianstop" in problem.remedy
    with pytest.raises(TunerError, match="'Median'"):
        assessor_of("Median")
