"""Every tuner against the contract, its class arguments, and NNI's priors."""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from trialflow.errors import Problem, TunerError
from trialflow.records import AlgorithmSpec, JsonObject
from trialflow.testing import TunerContract
from trialflow.testing.contracts import Conversation
from trialflow.tuners import Tuner, check_tuner, get_tuner

TUNERS = ["TPE", "Random"]
BOWL: JsonObject = {
    "x": {"_type": "uniform", "_value": [-5, 5]},
    "y": {"_type": "choice", "_value": ["bad", "good", "worse"]},
}


def problems_of(name: str, class_args: JsonObject) -> list[Problem]:
    def place(field: tuple[str, ...], rule: str, value: str | None, remedy: str) -> Problem:
        return Problem(".".join(field), rule, value, remedy)

    return check_tuner(AlgorithmSpec(name, class_args), place)


def tuner_of(name: str, **class_args: Any) -> Tuner:
    return get_tuner(AlgorithmSpec(name, class_args))


def first_suggestions(tuner: Tuner, kind: str, value: Any, count: int = 600) -> list[Any]:
    """The first suggestion of many experiments."""
    space = {"p": {"_type": kind, "_value": value}}
    conversation = Conversation(tuner, space)
    return [conversation.ask()[1]["p"] for _ in range(count)]


def distance(parameters: JsonObject) -> float:
    return float(abs(parameters["x"] - 2)) + {"good": 0, "bad": 3, "worse": 6}[parameters["y"]]


@pytest.mark.parametrize("name", TUNERS)
class TestTuner(TunerContract):
    @pytest.fixture
    def tuner(self, name: str) -> Tuner:
        return tuner_of(name)


@pytest.mark.parametrize("name", TUNERS)
@pytest.mark.parametrize(
    ("kind", "value", "holds"),
    [
        ("uniform", [2, 4], lambda drawn: abs(statistics.fmean(drawn) - 3) < 0.1),
        ("loguniform", [1e-4, 1], lambda drawn: abs(statistics.median(map(math.log10, drawn)) + 2) < 0.3),
        ("normal", [10, 2], lambda drawn: abs(statistics.fmean(drawn) - 10) < 0.3),
        ("normal", [10, 2], lambda drawn: abs(statistics.stdev(drawn) - 2) < 0.25),
        ("lognormal", [1, 0.5], lambda drawn: abs(statistics.median(map(math.log, drawn)) - 1) < 0.1),
        ("randint", [0, 4], lambda drawn: all(110 < n < 190 for n in Counter(drawn).values())),
        ("choice", ["a", "b", "c"], lambda drawn: all(150 < n < 250 for n in Counter(drawn).values())),
        # Rounded from a uniform draw: 0, 1 and 2 once in 4, 2 and 4 in 4.
        ("quniform", [0, 2, 1], lambda drawn: 250 < Counter(drawn)[1.0] < 350),
    ],
)
def test_suggestions_without_results_are_drawn_from_the_prior(
    name: str, kind: str, value: Any, holds: Callable[[list[Any]], bool]
) -> None:
    drawn = first_suggestions(tuner_of(name), kind, value)

    assert holds(drawn), Counter(drawn).most_common(5)


def test_tpe_finds_what_random_does_not() -> None:
    found = {
        name: statistics.median(
            min(map(distance, Conversation(tuner_of(name), BOWL, seed=1000 * seed).run(40, distance)))
            for seed in range(5)
        )
        for name in TUNERS
    }

    assert found["TPE"] < 0.5 * found["Random"]


def test_tpe_spreads_what_is_asked_for_in_parallel_unless_told_not_to() -> None:
    space = {"x": {"_type": "randint", "_value": [0, 40]}, "y": {"_type": "choice", "_value": ["a", "b"]}}

    def points(parallel_optimize: bool) -> int:
        conversation = Conversation(tuner_of("TPE", parallel_optimize=parallel_optimize), space, seed=5)
        conversation.run(30, lambda parameters: (parameters["x"] - 12) ** 2 + 10 * (parameters["y"] == "a"))
        return len({tuple(conversation.ask()[1].values()) for _ in range(16)})

    assert points(True) > 1.5 * points(False)


@pytest.mark.parametrize("include", [True, False])
def test_tpe_learns_from_an_early_stopped_trial_only_with_intermediate_results(include: bool) -> None:
    def next_suggestions(prune: bool) -> list[JsonObject]:
        conversation = Conversation(get_tuner(AlgorithmSpec("TPE", {}, include)), BOWL)
        conversation.run(12, distance)
        for _ in range(5):
            number, _ = conversation.ask()
            if prune:
                conversation.prune(number, [100.0])
            else:
                conversation.fail(number)
        return [conversation.ask()[1] for _ in range(5)]

    assert (next_suggestions(prune=True) != next_suggestions(prune=False)) is include


def test_a_fresh_process_suggests_what_this_one_does() -> None:
    program = (
        "import json, sys\n"
        "from trialflow.records import AlgorithmSpec\n"
        "from trialflow.testing.contracts import Conversation\n"
        "from trialflow.tuners import get_tuner\n"
        "for name in sys.argv[1:]:\n"
        "    print(json.dumps(Conversation(get_tuner(AlgorithmSpec(name)), seed=3).run(20)))\n"
    )

    done = subprocess.run([sys.executable, "-c", program, *TUNERS], capture_output=True, text=True, check=True)

    fresh = [json.loads(line) for line in done.stdout.splitlines()]
    assert fresh == [Conversation(tuner_of(name), seed=3).run(20) for name in TUNERS]


@pytest.mark.parametrize(
    ("name", "class_args"),
    [
        ("TPE", {}),
        ("TPE", {"optimize_mode": "minimize"}),
        ("TPE", {"optimize_mode": "maximize", "parallel_optimize": True, "constant_liar_type": "max", "seed": 7}),
        ("Random", {}),
    ],
)
def test_class_arguments_of_nni_are_accepted(name: str, class_args: JsonObject) -> None:
    assert problems_of(name, class_args) == []


@pytest.mark.parametrize(
    ("name", "class_args", "field", "value"),
    [
        ("TPE", {"optimize_mode": "upwards"}, "optimize_mode", '"upwards"'),
        ("TPE", {"constant_liar_type": "median"}, "constant_liar_type", '"median"'),
        ("TPE", {"parallel_optimize": "perhaps"}, "parallel_optimize", '"perhaps"'),
        ("TPE", {"seed": -1}, "seed", "-1"),
        ("TPE", {"seed": 2**32}, "seed", str(2**32)),
        ("Random", {"optimize_mode": "minimize"}, "optimize_mode", '"minimize"'),
        ("Random", {"seed": 1}, "seed", "1"),
    ],
)
def test_a_wrong_class_argument_is_refused(name: str, class_args: JsonObject, field: str, value: str) -> None:
    (problem,) = problems_of(name, class_args)

    assert problem.field == f"tuner.classArgs.{field}"
    assert problem.rule.startswith(f"{name}: ")
    assert problem.value == value
    assert problem.remedy.startswith(f"Arguments of {name}: ")


def test_every_wrong_class_argument_is_named() -> None:
    problems = problems_of("TPE", {"optimize_mode": "up", "seed": "x", "kappa": 5})

    assert [problem.field.rpartition(".")[2] for problem in problems] == ["optimize_mode", "seed", "kappa"]


def test_an_unknown_tuner_is_refused_with_those_there_are() -> None:
    (problem,) = problems_of("Tpe", {})

    assert (problem.field, problem.value) == ("tuner.builtinTunerName", "Tpe")
    assert "TPE, Random" in problem.remedy
    with pytest.raises(TunerError, match="'Tpe'"):
        tuner_of("Tpe")
