"""Every assessor against the contract, and its rule as a table."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from trialflow.assessors import Assessor, check_assessor, get_assessor
from trialflow.errors import TunerError
from trialflow.experiment.running import ExperimentSteps
from trialflow.messages import Problem
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
    def problem_at(field: tuple[str, ...], rule: str, value: str | None, remedy: str) -> Problem:
        return Problem(".".join(field), rule, value, remedy)

    return check_assessor(AlgorithmSpec(name, class_args), problem_at)


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


def rise(top: float, steps: int) -> list[float]:
    """A learning curve that comes within 5 % of its end in 9 steps."""
    return [top * (1 - math.exp(-step / 3)) for step in range(1, steps + 1)]


def fall(bottom: float, steps: int) -> list[float]:
    return [1 - height for height in rise(1 - bottom, steps)]


@pytest.mark.parametrize(
    ("mode", "history", "completed", "good"),
    [
        # A curve that ends at half of the best one's last metric, and one that ends above it.
        ("maximize", rise(0.45, 8), [rise(0.9, 20)], False),
        ("maximize", rise(0.95, 8), [rise(0.9, 20)], True),
        ("minimize", fall(0.6, 8), [fall(0.2, 20)], False),
        ("minimize", fall(0.1, 8), [fall(0.2, 20)], True),
        # Where it is expected to end counts, not where it is: this one is far below the best still.
        ("maximize", rise(0.9, 6), [[0.88]], True),
        ("minimize", fall(0.1, 6), [[0.12]], True),
        # A curve in the other direction.
        ("maximize", fall(0.1, 8), [[0.5]], False),
        ("minimize", rise(0.9, 8), [[0.5]], False),
        # One that has come to rest.
        ("maximize", [0.4] * 8, [[0.5]], False),
        ("maximize", [0.5] * 8, [[0.5]], True),
        ("minimize", [0.5] * 8, [[0.5]], True),
        ("minimize", [0.6] * 8, [[0.5]], False),
        # Of the completed trials the best one counts, by its last metric.
        ("maximize", rise(0.6, 8), [[0.1], [0.9], [0.3]], False),
        ("maximize", rise(0.6, 8), [[0.99, 0.5], [0.3]], True),
        ("minimize", fall(0.4, 8), [[0.9], [0.1], [0.3]], False),
        ("minimize", fall(0.4, 8), [[0.01, 0.5], [0.7]], True),
        # Fewer metrics than start_step, and nothing to compare with.
        ("maximize", [0.1] * 5, [[0.9]], True),
        ("maximize", [0.1] * 6, [[0.9]], False),
        ("maximize", [0.1] * 8, [[]], True),
        ("maximize", [0.1] * 8, [], True),
    ],
)
def test_curvefitting_stops_a_trial_whose_curve_will_not_come_near_the_best_last_metric(
    mode: str, history: list[float], completed: list[list[float]], good: bool
) -> None:
    assert assessor_of("Curvefitting", epoch_num=20, optimize_mode=mode).is_good(history, completed) is good


@pytest.mark.parametrize(
    ("mode", "threshold", "good"),
    [("maximize", 0.95, False), ("maximize", 0.75, True), ("minimize", 0.95, False), ("minimize", 0.75, True)],
)
def test_curvefitting_stops_below_its_share_of_the_best(mode: str, threshold: float, good: bool) -> None:
    assessor = assessor_of("Curvefitting", epoch_num=20, optimize_mode=mode, threshold=threshold)
    metric = 0.4 if mode == "maximize" else 0.6

    assert assessor.is_good([metric] * 8, [[0.5]]) is good


@pytest.mark.parametrize(("start_step", "gap", "judged"), [(6, 1, [6, 7, 8, 9, 10]), (2, 3, [2, 5, 8]), (9, 4, [9])])
def test_curvefitting_judges_from_its_start_step_on_with_gaps(start_step: int, gap: int, judged: list[int]) -> None:
    assessor = assessor_of("Curvefitting", epoch_num=20, start_step=start_step, gap=gap)

    assert [step for step in range(1, 11) if not assessor.is_good([0.1] * step, [[0.9]])] == judged


def test_curvefitting_expects_more_of_a_trial_that_has_longer_to_go() -> None:
    history = [0.1 * step**0.5 for step in range(1, 9)]

    verdicts = [assessor_of("Curvefitting", epoch_num=number).is_good(history, [[0.35]]) for number in (8, 40)]

    assert verdicts == [False, True]


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
    ("mode", "last", "others", "good"),
    [
        ("maximize", 0.3, [0.1, 0.5], False),  # Of three, one passes.
        ("maximize", 0.5, [0.1, 0.3], True),
        ("minimize", 0.3, [0.1, 0.5], False),
        ("minimize", 0.1, [0.3, 0.5], True),
        ("maximize", 0.3, [0.1, 0.2, 0.5], True),  # Of four, two.
        ("maximize", 0.2, [0.1, 0.3, 0.5], False),
        ("minimize", 0.2, [0.1, 0.3, 0.5], True),
        ("maximize", 0.1, [], True),
    ],
)
def test_successive_halving_lets_one_in_so_many_pass_a_rung(
    mode: str, last: float, others: list[float], good: bool
) -> None:
    assessor = assessor_of("SuccessiveHalving", optimize_mode=mode, min_resource=2, reduction_factor=2)

    # Only metrics at the rung count; a trial that has not come to it is no measure.
    assert assessor.is_good([9.0, last], [[-9.0, other, 9.0] for other in others] + [[9.0], [-9.0]]) is good


@pytest.mark.parametrize(
    ("class_args", "rungs"),
    [
        ({}, [1, 4, 16]),
        ({"min_resource": 3, "reduction_factor": 2}, [3, 6, 12]),
        ({"min_early_stopping_rate": 1}, [4, 16]),
    ],
)
def test_successive_halving_judges_at_its_rungs(class_args: JsonObject, rungs: list[int]) -> None:
    assessor = assessor_of("SuccessiveHalving", **class_args)

    assert [step for step in range(1, 20) if not assessor.is_good([0.1] * step, [[0.9] * 20])] == rungs


@pytest.mark.parametrize(
    "status", [TrialStatus.FAILED, TrialStatus.EARLY_STOPPED, TrialStatus.USER_CANCELED, TrialStatus.SYS_CANCELED]
)
def test_only_trials_that_succeeded_are_a_measure(tmp_path: Path, status: TrialStatus) -> None:
    steps = ExperimentSteps.create("expaaaaa", make_spec(trial_concurrency=9), Settings(home=tmp_path))
    steps.start()

    def end(index: int, ending: TrialStatus, metrics: list[float]) -> Trial:
        trial = steps.context.store.claim(steps.context.id, Slot(1, index), "run")
        assert isinstance(trial, Trial)
        reported = [Metric(MetricType.PERIODICAL, step, value, 1.0) for step, value in enumerate(metrics)]
        steps.context.store.add_metrics(trial, [*reported, Metric(MetricType.FINAL, 0, 7.0, 1.0)])
        steps.context.store.set_ended(trial, Outcome(ending), None)
        return trial

    end(0, TrialStatus.SUCCEEDED, [0.2, 0.3])
    end(1, status, [0.9, 0.9])
    end(2, TrialStatus.SUCCEEDED, [0.4])
    itself = end(3, TrialStatus.SUCCEEDED, [0.5])

    looks = steps.context.looks
    assert sorted(looks.histories(assessor_of("Medianstop"), itself)) == [[0.2, 0.3], [0.4]]
    assert sorted(looks.histories(assessor_of("SuccessiveHalving"), itself)) == [[0.2, 0.3], [0.4], [0.9, 0.9]]


@pytest.mark.parametrize(
    ("name", "class_args"),
    [
        ("Medianstop", {}),
        ("Medianstop", {"optimize_mode": "minimize", "start_step": 5}),
        ("Curvefitting", {"epoch_num": 20}),
        ("Curvefitting", {"epoch_num": 20, "start_step": 0, "threshold": 9, "gap": 9999, "optimize_mode": "minimize"}),
        ("SuccessiveHalving", {}),
        (
            "SuccessiveHalving",
            {"optimize_mode": "minimize", "min_resource": 3, "reduction_factor": 2, "min_early_stopping_rate": 1},
        ),
    ],
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
        ("Curvefitting", {"start_step": 6}, "epoch_num", '{"start_step": 6}'),
        ("Curvefitting", {"epoch_num": 0}, "epoch_num", "0"),
        ("Curvefitting", {"epoch_num": 20, "start_step": -1}, "start_step", "-1"),
        ("Curvefitting", {"epoch_num": 20, "threshold": 10_000}, "threshold", "10000"),
        ("Curvefitting", {"epoch_num": 20, "gap": 0}, "gap", "0"),
        ("SuccessiveHalving", {"min_resource": 0}, "min_resource", "0"),
        ("SuccessiveHalving", {"reduction_factor": 1}, "reduction_factor", "1"),
        ("SuccessiveHalving", {"min_early_stopping_rate": -1}, "min_early_stopping_rate", "-1"),
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
