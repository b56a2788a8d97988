"""Every tuner against the contract, its class arguments, and NNI's priors."""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from trialflow import builtin
from trialflow.algorithms import ClassArgs, WithoutEffect
from trialflow.builtin import ADVISORS
from trialflow.config.keys import builtin_name, is_advisor
from trialflow.errors import TunerError
from trialflow.experiment.loading.load import load_experiment
from trialflow.messages import Problem
from trialflow.records import AlgorithmSpec, JsonObject, OptimizeMode
from trialflow.search_space import parse_search_space
from trialflow.settings import Settings
from trialflow.testing import TunerContract
from trialflow.testing.algorithm_contracts import EVERY_TYPE, SPACE, Conversation
from trialflow.tuners import NoSuggestion, Suggestion, Tuner, check_space, check_tuner, get_tuner, smac

# name → class arguments that make it use its model after a few results
TUNERS: dict[str, JsonObject] = {
    "TPE": {},
    "Random": {},
    "Anneal": {},
    "Evolution": {"optimize_mode": "minimize", "population_size": 6},
    "GridSearch": {},
    "BatchTuner": {},
    "GPTuner": {"selection_num_warm_up": 300},
    "MetisTuner": {"selection_num_starting_points": 60},
    "QMC": {},
    "CmaEs": {"population_size": 4},
    "NSGAII": {"population_size": 4, "objectives": {"cost": "maximize"}},
    "SMAC": {},
    "Hyperband": {"optimize_mode": "minimize", "R": 9},
    "BOHB": {"optimize_mode": "minimize", "max_budget": 9, "random_fraction": 0.0},
}
MODELS = ["TPE", "Anneal", "Evolution", "GPTuner", "MetisTuner", "CmaEs"]
FIXED = ["GridSearch", "BatchTuner"]
FROM_PRIORS = ["TPE", "Random", "Anneal", "Evolution", "QMC", "CmaEs", "NSGAII", "Hyperband", "BOHB"]
BOWL: JsonObject = {name: {"_type": "uniform", "_value": [-5, 5]} for name in "xy"}


def problems_of(name: str, class_args: JsonObject) -> list[Problem]:
    def problem_at(field: tuple[str, ...], rule: str, value: str | None, remedy: str) -> Problem:
        return Problem(".".join(field), rule, value, remedy)

    section: Any = "advisor" if name in ADVISORS else "tuner"
    return check_tuner(AlgorithmSpec(name, class_args), problem_at, section=section)


def tuner_of(name: str, **class_args: Any) -> Tuner:
    return get_tuner(AlgorithmSpec(name, class_args))


def first_suggestions(tuner: Tuner, kind: str, value: Any, count: int = 600) -> list[Any]:
    """The first suggestion of many experiments."""
    space = {"p": {"_type": kind, "_value": value}}
    return [Conversation(tuner, space, seed).ask()[1]["p"] for seed in range(count)]


def distance(parameters: JsonObject) -> float:
    return math.dist([parameters["x"], parameters["y"]], [2, -1])


def space_for(tuner: Tuner) -> JsonObject:
    """A search space with everything that a tuner takes."""
    if tuner.spec.name == "BatchTuner":
        return {"combine_params": {"_type": "choice", "_value": [{"x": x, "y": str(x)} for x in range(200)]}}
    space = {kind: body for kind, body in EVERY_TYPE.items() if kind in tuner.types}
    if tuner.takes_only_numbers:
        space["choice"] = {"_type": "choice", "_value": [16, 1.5, 64, 32]}
    return {**space, "layer": SPACE["layer"]} if tuner.takes_nested else space


@pytest.fixture(autouse=True)
def a_short_search_of_smac(monkeypatch: pytest.MonkeyPatch) -> None:
    """SMAC's full search among its candidates takes half a second of each ask."""
    monkeypatch.setattr("trialflow.tuners.smac._CHALLENGERS", 200)
    monkeypatch.setattr("trialflow.tuners.smac._LOCAL_SEARCHES", 1)


@pytest.mark.parametrize("name", TUNERS)
class TestTuner(TunerContract):
    @pytest.fixture
    def tuner(self, name: str) -> Tuner:
        return tuner_of(name, **TUNERS[name])

    @pytest.fixture
    def raw_space(self, tuner: Tuner) -> JsonObject:
        return space_for(tuner)


def test_the_contract_is_held_by_every_tuner() -> None:
    assert set(TUNERS) == set(builtin.TUNERS) | set(ADVISORS)


@pytest.mark.parametrize("name", [name for name in TUNERS if name not in FIXED])
def test_another_seed_gives_other_suggestions(name: str) -> None:
    tuner = tuner_of(name, **TUNERS[name])

    assert Conversation(tuner, space_for(tuner), seed=1).run(3) != Conversation(tuner, space_for(tuner), seed=2).run(3)


@pytest.mark.parametrize("name", [name for name in TUNERS if tuner_of(name, **TUNERS[name]).takes_nested])
def test_a_nested_choice_hands_out_the_parameters_of_the_chosen_option_only(name: str) -> None:
    layers = [point["layer"] for point in Conversation(tuner_of(name, **TUNERS[name]), SPACE, seed=3).run(25)]

    assert {layer["_name"] for layer in layers} == {"Conv", "Dense"}
    for layer in layers:
        assert set(layer) == ({"_name", "k"} if layer["_name"] == "Conv" else {"_name", "size"})


@pytest.mark.parametrize("name", [name for name in TUNERS if name not in ADVISORS and name != "BatchTuner"])
def test_each_point_of_a_finite_space_is_suggested_once_under_parallel_asks(name: str) -> None:
    space: JsonObject = {
        "a": {"_type": "choice", "_value": [1, 2, 4, 8]},
        "b": {"_type": "randint", "_value": [0, 5]},
        "c": {"_type": "quniform", "_value": [0, 1, 1 / 3]},
    }
    points = 80
    if name in ("GPTuner", "MetisTuner", "SMAC"):  # These take their time.
        del space["c"]
        points = 20
    conversation = Conversation(tuner_of(name, **TUNERS[name]), space)
    live: list[int] = []

    while isinstance(conversation.answer(), Suggestion):
        if len(live) == points // 5:
            conversation.tell(live.pop(0), float(len(conversation.trials)))
        live.append(conversation.ask()[0])

    assert conversation.answer() is NoSuggestion.EXHAUSTED
    assert len({json.dumps(trial.parameters) for trial in conversation.trials}) == len(conversation.trials) == points


@pytest.mark.parametrize("concurrency", [1, 5])
@pytest.mark.parametrize(
    ("name", "class_args", "budgets"),
    [
        ("Hyperband", {"R": 9}, (1, 3, 9)),
        ("Hyperband", {"R": 9, "exec_mode": "serial"}, (1, 3, 9)),
        ("BOHB", {"max_budget": 3}, (1, 3)),
    ],
)
def test_an_advisor_tries_each_point_of_a_finite_space_with_each_budget_once(
    name: str, class_args: JsonObject, budgets: tuple[int, ...], concurrency: int
) -> None:
    tuner = tuner_of(name, optimize_mode="minimize", **class_args)
    conversation = Conversation(tuner, {"x": {"_type": "choice", "_value": [1, 2, 3, 4]}})
    live: list[int] = []

    while (answer := conversation.answer()) is not NoSuggestion.EXHAUSTED:
        assert len(conversation.trials) < 20
        if answer is NoSuggestion.WAIT or len(live) == concurrency:
            number = live.pop(0)
            conversation.tell(number, float(conversation.trials[number].parameters["x"]))
        else:
            live.append(conversation.ask()[0])

    tried = [(trial.parameters["x"], trial.parameters["TRIAL_BUDGET"]) for trial in conversation.trials]
    assert sorted(tried) == sorted(product([1, 2, 3, 4], budgets))


# NNI's: of each bracket, configurations and budget of its rounds.
BRACKETS_OF_27 = [[(27, 1), (9, 3), (3, 9), (1, 27)], [(12, 3), (4, 9), (1, 27)], [(6, 9), (2, 27)], [(4, 27)]]
BRACKETS_OF_81 = [
    [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
    [(34, 3), (11, 9), (3, 27), (1, 81)],
    [(15, 9), (5, 27), (1, 81)],
    [(8, 27), (2, 81)],
    [(5, 81)],
]


@pytest.mark.parametrize(
    ("name", "class_args", "brackets"),
    [
        ("Hyperband", {"R": 27, "eta": 3}, BRACKETS_OF_27),
        ("Hyperband", {"R": 27, "eta": 3, "exec_mode": "serial"}, BRACKETS_OF_27),
        ("Hyperband", {"R": 81, "eta": 3}, BRACKETS_OF_81),
        ("BOHB", {"max_budget": 27}, BRACKETS_OF_27),
        ("BOHB", {"max_budget": 81, "eta": 3}, BRACKETS_OF_81),
        ("BOHB", {"min_budget": 3, "max_budget": 81}, [[(n, 3 * r) for n, r in rounds] for rounds in BRACKETS_OF_27]),
        # Budgets that are no whole numbers are rounded down.
        ("Hyperband", {"R": 10, "eta": 3}, [[(9, 1), (3, 3), (1, 10)], [(5, 3), (1, 10)], [(3, 10)]]),
        ("Hyperband", {"R": 4, "eta": 2}, [[(4, 1), (2, 2), (1, 4)], [(3, 2), (1, 4)], [(3, 4)]]),
    ],
)
@pytest.mark.parametrize("mode", OptimizeMode)
def test_an_advisor_opens_the_brackets_of_nni_and_promotes_the_best(
    name: str, class_args: JsonObject, brackets: list[list[tuple[int, int]]], mode: OptimizeMode
) -> None:
    conversation = Conversation(tuner_of(name, optimize_mode=mode.value, **class_args), BOWL, mode=mode)
    # All brackets, and the first one again.
    conversation.run(sum(n for rounds in [*brackets, brackets[0]] for n, _ in rounds), lambda point: point["x"])

    rounds = defaultdict(list)
    for trial in conversation.trials:
        rounds[trial.note["bracket"], trial.note["round"]].append(trial)
    assert {place: (len(trials), trials[0].parameters["TRIAL_BUDGET"]) for place, trials in rounds.items()} == {
        (bracket, index): each for bracket, all_rounds in enumerate([*brackets, brackets[0]])
        for index, each in enumerate(all_rounds)
    }  # fmt: skip
    for (bracket, index), trials in rounds.items():
        assert len({trial.parameters["TRIAL_BUDGET"] for trial in trials}) == 1
        if index:
            before = sorted((trial.parameters["x"] for trial in rounds[bracket, index - 1]),
                            reverse=mode is OptimizeMode.MAXIMIZE)  # fmt: skip
            assert [trial.parameters["x"] for trial in trials] == before[: len(trials)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "class_args", "digits"),
    [("MetisTuner", {}, 4), ("MetisTuner", {"no_resampling": False}, 1), ("GPTuner", {}, 2)],
)
def test_a_process_finds_the_bottom_of_a_bowl_as_exactly_as_its_noise_lets_it(
    name: str, class_args: JsonObject, digits: int
) -> None:
    def height(point: JsonObject) -> float:
        return float((point["x"] - 0.3) ** 2 + (point["y"] - 0.7) ** 2)

    tried = Conversation(tuner_of(name, optimize_mode="minimize", **class_args), BOWL).run(25, height)

    assert min(map(height, tried)) < 10**-digits



def test_the_grid_is_searched_in_the_order_of_the_product_the_last_parameter_first() -> None:
    space: JsonObject = {
        "z": {"_type": "choice", "_value": ["b", "a"]},
        "y": {"_type": "randint", "_value": [3, 6]},
    }

    found = [tuple(parameters.values()) for parameters in Conversation(tuner_of("GridSearch"), space).run(6)]

    assert found == list(product(["b", "a"], [3, 4, 5]))


def test_the_grid_of_numbers_is_halved_round_by_round_as_in_nni() -> None:
    space: JsonObject = {
        "x": {"_type": "choice", "_value": [5, 7]},
        "y": {"_type": "normal", "_value": [0, 1]},
        "z": {"_type": "quniform", "_value": [2, 3, 1]},
    }

    found = [
        (point["x"], round(point["y"], 2), point["z"]) for point in Conversation(tuner_of("GridSearch"), space).run(12)
    ]

    first = [(5, 0, 2), (7, 0, 2)]
    second = [(x, y, z) for x in (5, 7) for y in (0, -0.67, 0.67) for z in (2, 3) if (y, z) != (0, 2)]
    assert found == first + second


def test_the_grid_of_a_nested_space_subdivides_what_is_chosen() -> None:
    layers = [
        {"_name": "Conv", "k": {"_type": "uniform", "_value": [0, 4]}},
        {"_name": "Pool"},
        {"_name": "Dense", "size": {"_type": "choice", "_value": [8, 16]}},
    ]
    conversation = Conversation(tuner_of("GridSearch"), {"layer": {"_type": "choice", "_value": layers}})

    found = [tuple(point["layer"].values()) for point in conversation.run(8)]

    first = [("Conv", 2), ("Pool",), ("Dense", 8), ("Dense", 16)]
    assert found == [*first, ("Conv", 1), ("Conv", 3), ("Conv", 0.5), ("Conv", 1.5)]


@pytest.mark.parametrize(
    ("kind", "value", "points"),
    [
        ("quniform", [2, 10, 5], [2, 5, 10]),
        ("quniform", [0.4999999, 4, 1], [0.4999999, 1, 2, 3, 4]),
        ("qloguniform", [1, 40, 1], list(range(1, 41))),
        ("qnormal", [0, 1, 2], [-4, -2, 0, 2, 4]),
        ("uniform", [5, 5], [5]),
        ("lognormal", [0, 1e-320], [1]),
    ],
)
def test_a_grid_of_finitely_many_numbers_comes_to_its_end(kind: str, value: list[float], points: list[float]) -> None:
    conversation = Conversation(tuner_of("GridSearch"), {"x": {"_type": kind, "_value": value}})

    assert sorted(point["x"] for point in conversation.run(len(points))) == points
    assert conversation.answer() is NoSuggestion.EXHAUSTED


def test_an_option_that_is_listed_twice_is_searched_once() -> None:
    conversation = Conversation(tuner_of("GridSearch"), {"x": {"_type": "choice", "_value": [1, 1, 2]}})

    assert [point["x"] for point in conversation.run(2)] == [1, 2]
    assert conversation.answer() is NoSuggestion.EXHAUSTED


@pytest.mark.parametrize("name", [name for name in TUNERS if name not in ADVISORS and name != "BatchTuner"])
def test_a_space_without_parameters_is_tried_once(name: str) -> None:
    conversation = Conversation(tuner_of(name, **TUNERS[name]), {})

    assert conversation.run(1) == [{}]
    assert conversation.answer() is NoSuggestion.EXHAUSTED


@pytest.mark.parametrize("name", ["Random", "TPE", "GridSearch"])
def test_a_whole_number_that_a_person_wrote_without_a_point_is_not_suggested_again(name: str) -> None:
    conversation = Conversation(tuner_of(name), {"x": {"_type": "quniform", "_value": [0, 3, 1]}})
    conversation.give({"x": 1}, 0.5)

    assert sorted(parameters["x"] for parameters in conversation.run(3)) == [0.0, 2.0, 3.0]
    assert conversation.answer() is NoSuggestion.EXHAUSTED


def test_a_space_that_is_too_large_to_be_listed_is_listed_when_it_is_tried_in_good_part(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("trialflow.tuners.drawing._LARGEST_LISTED_SPACE", 1)
    conversation = Conversation(tuner_of("Random"), {"x": {"_type": "randint", "_value": [0, 12]}})

    assert sorted(parameters["x"] for parameters in conversation.run(12)) == list(range(12))
    assert conversation.answer() is NoSuggestion.EXHAUSTED


@pytest.mark.parametrize("name", FROM_PRIORS)
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
    drawn = first_suggestions(tuner_of(name, **TUNERS[name]), kind, value)

    assert holds(drawn), Counter(drawn).most_common(5)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_tuner_that_learns_finds_what_random_does_not(name: str) -> None:
    def best(tuner: Tuner, seed: int) -> float:
        conversation = Conversation(tuner, BOWL, seed=seed)
        conversation.run(30, distance)
        return min(distance(trial.parameters) for trial in conversation.trials)

    tuner, random = tuner_of(name, **TUNERS[name]), tuner_of("Random")

    found = [statistics.median(best(each, seed) for seed in range(3)) for each in (tuner, random)]

    assert found[0] < 0.7 * found[1]


def test_anneal_does_not_give_up_an_option_that_it_has_hardly_tried() -> None:
    space = {"x": {"_type": "uniform", "_value": [0, 1]}, "branch": {"_type": "choice", "_value": ["often", "once"]}}

    def suggested(seed: int) -> str:
        conversation = Conversation(tuner_of("Anneal"), space, seed)
        conversation.give({"x": 0.5, "branch": "once"}, value=9.0)
        for number in range(40):
            conversation.give({"x": number / 40, "branch": "often"}, value=number / 40)
        return str(conversation.ask()[1]["branch"])

    assert 70 < Counter(suggested(seed) for seed in range(200))["once"] < 90


def test_bohb_draws_its_configurations_where_good_results_lie() -> None:
    def mean_distance(name: str) -> float:
        conversation = Conversation(tuner_of(name, **TUNERS[name]), BOWL)
        conversation.run(100, distance)
        return statistics.fmean(
            distance(trial.parameters) for trial in conversation.trials[50:] if trial.note["round"] == 0
        )

    assert mean_distance("BOHB") < 0.5 * mean_distance("Hyperband")


def test_tpe_spreads_what_is_asked_for_in_parallel_unless_told_not_to() -> None:
    space = {name: {"_type": "uniform", "_value": [0, 1]} for name in "xy"}

    def distance_to_the_nearest(parallel_optimize: bool, seed: int) -> float:
        conversation = Conversation(tuner_of("TPE", parallel_optimize=parallel_optimize), space, seed)
        conversation.run(30, lambda parameters: math.dist(parameters.values(), [0.3, 0.6]))
        asked = [tuple(conversation.ask()[1].values()) for _ in range(12)]
        return statistics.fmean(min(math.dist(one, other) for other in asked if other != one) for one in asked)

    def spread(parallel_optimize: bool) -> float:
        return statistics.fmean(distance_to_the_nearest(parallel_optimize, 1000 * seed) for seed in range(4))

    assert spread(True) > 1.4 * spread(False)


def test_nsga2_brings_more_of_its_trials_near_the_front_than_random_does() -> None:
    def near(tuner: Tuner, seed: int) -> int:
        conversation = Conversation(tuner, BOWL, seed=seed)
        for _ in range(80):
            number, parameters = conversation.ask()
            conversation.tell(number, abs(parameters["x"]) + abs(parameters["y"]), cost=parameters["x"])
        # The smaller the first objective, and the larger the second one: the best trials have y = 0 and x >= 0.
        points = [trial.parameters for trial in conversation.trials[40:]]
        return sum(abs(point["y"]) < 1 and point["x"] > -0.5 for point in points)

    nsga2 = tuner_of("NSGAII", population_size=10, objectives={"cost": "maximize"})

    found = [sum(near(each, seed) for seed in range(4)) for each in (nsga2, tuner_of("Random"))]

    assert found[0] > 1.8 * found[1], found


@pytest.mark.parametrize("include", [True, False])
def test_tpe_learns_from_an_early_stopped_trial_only_with_intermediate_results(include: bool) -> None:
    def next_suggestions(prune: bool) -> list[JsonObject]:
        conversation = Conversation(get_tuner(AlgorithmSpec("TPE", {}, include)), BOWL)
        conversation.run(12, distance)
        for _ in range(5):
            number, _ = conversation.ask()
            if prune:
                conversation.stop(number, 100.0)
            else:
                conversation.fail(number)
        return [conversation.ask()[1] for _ in range(5)]

    assert (next_suggestions(prune=True) != next_suggestions(prune=False)) is include


@pytest.mark.slow
def test_a_fresh_process_suggests_what_this_one_does() -> None:
    program = (
        "import json, sys\n"
        "from trialflow.records import AlgorithmSpec\n"
        "from trialflow.testing.algorithm_contracts import Conversation\n"
        "from trialflow.tuners import get_tuner, smac\n"
        f"smac._CHALLENGERS, smac._LOCAL_SEARCHES = {smac._CHALLENGERS}, {smac._LOCAL_SEARCHES}\n"
        "for name, args, space in json.loads(sys.argv[1]):\n"
        "    print(json.dumps(Conversation(get_tuner(AlgorithmSpec(name, args)), space, seed=3).run(20)))\n"
    )
    cases = [(name, args, space_for(tuner_of(name, **args))) for name, args in TUNERS.items()]

    command = [sys.executable, "-c", program, json.dumps(cases)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    fresh = [json.loads(line) for line in done.stdout.splitlines()]
    assert fresh == [Conversation(tuner_of(name, **args), space, seed=3).run(20) for name, args, space in cases]


# name, class arguments besides, argument, a value that makes a difference, a wrong value
CLASS_ARGUMENTS: list[tuple[str, JsonObject, str, Any, Any]] = [
    ("TPE", {}, "tpe_args.n_startup_jobs", 14, -1),
    ("TPE", {}, "tpe_args.n_ei_candidates", 3, 0),
    ("Evolution", {"optimize_mode": "minimize"}, "population_size", 5, 0),
    ("GPTuner", TUNERS["GPTuner"], "utility", "ucb", "best"),
    ("GPTuner", {**TUNERS["GPTuner"], "utility": "ucb"}, "kappa", 0.1, "much"),
    ("GPTuner", TUNERS["GPTuner"], "xi", 0.5, None),
    ("GPTuner", TUNERS["GPTuner"], "nu", 0.5, 0),
    ("GPTuner", TUNERS["GPTuner"], "alpha", 0.1, 0),
    ("GPTuner", TUNERS["GPTuner"], "cold_start_num", 4, 0),
    ("GPTuner", TUNERS["GPTuner"], "selection_num_warm_up", 20, 0),
    ("GPTuner", TUNERS["GPTuner"], "selection_num_starting_points", 1, 1.5),
    ("MetisTuner", TUNERS["MetisTuner"], "no_candidates", True, "perhaps"),
    ("MetisTuner", TUNERS["MetisTuner"], "selection_num_starting_points", 20, 0),
    ("MetisTuner", TUNERS["MetisTuner"], "exploration_probability", 0.1, 1.1),
    ("MetisTuner", TUNERS["MetisTuner"], "cold_start_num", 4, 0),
    ("QMC", {}, "qmc_type", "halton", "Sobol"),
    ("QMC", {}, "scramble", False, "a little"),
    ("CmaEs", {}, "population_size", 4, 1),
    ("CmaEs", {}, "sigma0", 0.01, 0),
    ("NSGAII", {**TUNERS["NSGAII"], "population_size": 5}, "population_size", 4, 1),
    ("NSGAII", TUNERS["NSGAII"], "mutation_prob", 0.9, 1.1),
    ("NSGAII", TUNERS["NSGAII"], "crossover_prob", 0.0, -0.1),
    ("NSGAII", TUNERS["NSGAII"], "swapping_prob", 0.0, 1.1),
    ("NSGAII", TUNERS["NSGAII"], "objectives", {"cost": "minimize"}, {}),
    ("Hyperband", TUNERS["Hyperband"], "R", 27, 0),
    ("Hyperband", TUNERS["Hyperband"], "eta", 2, 1),
    ("BOHB", TUNERS["BOHB"], "min_budget", 3, 0),
    ("BOHB", TUNERS["BOHB"], "max_budget", 27, 10_000),
    ("BOHB", TUNERS["BOHB"], "eta", 2, 1),
    ("BOHB", TUNERS["BOHB"], "min_points_in_model", 8, 0),
    ("BOHB", TUNERS["BOHB"], "top_n_percent", 90, 100),
    ("BOHB", TUNERS["BOHB"], "num_samples", 1, 0),
    ("BOHB", TUNERS["BOHB"], "random_fraction", 1.0, 1.1),
    ("BOHB", TUNERS["BOHB"], "bandwidth_factor", 1.0, 0),
    ("BOHB", TUNERS["BOHB"], "min_bandwidth", 0.5, 0),
]
# The effect of these is tested by itself: on parallel suggestions, on the experiment, or after many results.
TESTED_ELSEWHERE = {
    ("TPE", "parallel_optimize"),
    ("TPE", "tpe_args.constant_liar_type"),
    ("Hyperband", "exec_mode"),
    ("MetisTuner", "no_resampling"),
}


def with_argument(class_args: JsonObject, path: str, value: Any) -> JsonObject:
    section, _, argument = path.rpartition(".")
    return {**class_args, **({section: {argument: value}} if section else {argument: value})}


def arguments_of(args: type[ClassArgs], prefix: str = "") -> set[str]:
    """The paths of all class arguments that have an effect, except those that mean the same for every tuner."""
    found = set()
    for name, info in args.model_fields.items():
        is_idle = any(isinstance(mark, WithoutEffect) and mark.when(info.default) for mark in info.metadata)
        if isinstance(info.default, ClassArgs):
            found |= arguments_of(type(info.default), f"{name}.")
        elif name not in ("optimize_mode", "seed") and not is_idle:
            found.add(prefix + name)
    return found


def test_every_class_argument_that_has_an_effect_is_tested() -> None:
    found = {(name, path) for name, args in TUNERS.items() for path in arguments_of(tuner_of(name, **args).Args)}

    assert found <= {(name, path) for name, _, path, _, _ in CLASS_ARGUMENTS} | TESTED_ELSEWHERE


@cache
def suggestions_with(name: str, class_args: str) -> list[JsonObject]:
    """The first suggestions of an experiment; class arguments as JSON."""
    tuner = tuner_of(name, **json.loads(class_args))
    return Conversation(tuner, BOWL).run(40 if name in ADVISORS else 16, distance)


@pytest.mark.parametrize(("name", "class_args", "path", "value", "_wrong"), CLASS_ARGUMENTS)
def test_a_class_argument_is_accepted_and_makes_a_difference(
    name: str, class_args: JsonObject, path: str, value: Any, _wrong: Any
) -> None:
    given = with_argument(class_args, path, value)

    assert problems_of(name, given) == []
    assert suggestions_with(name, json.dumps(given)) != suggestions_with(name, json.dumps(class_args))


@pytest.mark.parametrize(("name", "class_args", "path", "_value", "wrong"), CLASS_ARGUMENTS)
def test_a_wrong_value_of_a_class_argument_is_refused(
    name: str, class_args: JsonObject, path: str, _value: Any, wrong: Any
) -> None:
    (problem,) = problems_of(name, with_argument(class_args, path, wrong))

    assert problem.field.partition(".classArgs.")[2] == path
    assert problem.value == json.dumps(wrong)


@pytest.mark.parametrize("value", [True, False])
def test_metis_tries_a_point_again_only_when_results_may_be_noisy(value: bool) -> None:
    conversation = Conversation(tuner_of("MetisTuner", no_resampling=value), {"x": {"_type": "choice", "_value": [1]}})
    conversation.run(1)

    assert (conversation.answer() is NoSuggestion.EXHAUSTED) is value


@pytest.mark.parametrize(("exec_mode", "waits"), [("serial", True), ("parallelism", False)])
def test_hyperband_opens_the_next_bracket_while_a_round_runs_unless_it_is_serial(exec_mode: str, waits: bool) -> None:
    conversation = Conversation(tuner_of("Hyperband", optimize_mode="minimize", R=9, exec_mode=exec_mode), BOWL)
    for _ in range(9):
        conversation.ask()

    assert (conversation.answer() is NoSuggestion.WAIT) is waits


@pytest.mark.parametrize(
    ("name", "class_args"),
    [
        ("TPE", {}),
        ("TPE", {"optimize_mode": "minimize"}),
        ("TPE", {"optimize_mode": "maximize", "parallel_optimize": True, "constant_liar_type": "max", "seed": 7}),
        (
            "TPE",
            {
                "tpe_args": {
                    "constant_liar_type": "best", "n_startup_jobs": 20, "n_ei_candidates": 24,
                    "linear_forgetting": 25, "prior_weight": 1.0, "gamma": 0.25,
                }
            },
        ),
        ("Random", {}),
        ("Anneal", {"optimize_mode": "minimize", "parallel_optimize": False, "constant_liar_type": "mean"}),
        ("Evolution", {"optimize_mode": "maximize", "population_size": 99999}),
        ("GridSearch", {}),
        ("BatchTuner", {}),
        (
            "GPTuner",
            {
                "optimize_mode": "maximize", "utility": "poi", "kappa": 5.0, "xi": 0.0, "nu": 2.5, "alpha": 1e-6,
                "cold_start_num": 10, "selection_num_warm_up": 100000, "selection_num_starting_points": 250,
            },
        ),
        (
            "MetisTuner",
            {
                "optimize_mode": "maximize", "no_resampling": True, "no_candidates": False,
                "selection_num_starting_points": 600, "cold_start_num": 10,
            },
        ),
        ("SMAC", {"optimize_mode": "maximize", "config_dedup": True}),
        ("Hyperband", {"optimize_mode": "maximize", "R": 60, "eta": 3, "exec_mode": "parallelism"}),
        (
            "BOHB",
            {
                "optimize_mode": "maximize", "min_budget": 1, "max_budget": 27, "eta": 3, "min_points_in_model": 7,
                "top_n_percent": 15, "num_samples": 128, "random_fraction": 0.33, "bandwidth_factor": 3.0,
                "min_bandwidth": 0.001,
            },
        ),
    ],
)  # fmt: skip
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
        ("Random", {"seed": -1}, "seed", "-1"),
        ("NSGAII", {"objectives": {}}, "objectives", "{}"),
        ("NSGAII", {"objectives": {"default": "minimize"}}, "objectives", '{"default": "minimize"}'),
        ("NSGAII", {"objectives": {"cost": "down"}}, "objectives.cost", '"down"'),
    ],
)
def test_a_wrong_class_argument_is_refused(name: str, class_args: JsonObject, field: str, value: str) -> None:
    (problem,) = problems_of(name, class_args)

    assert problem.field == f"tuner.classArgs.{field}"
    assert problem.rule.startswith(f"{name}: ")
    assert problem.value == value
    assert problem.remedy.startswith(f"Arguments of {name}: ")


def test_a_space_that_bohb_would_read_from_a_file_of_its_own_is_refused() -> None:
    (problem,) = problems_of("BOHB", {"optimize_mode": "minimize", "config_space": "/nfs/space.pcs"})
    assert problem.rule == "BOHB: config_space, a .pcs file, is not read; write its parameters into the search space"


@pytest.mark.parametrize(
    ("name", "class_args", "warned_of"),
    [
        ("TPE", {"optimize_mode": "minimize", "parallel_optimize": False, "seed": 1}, []),
        ("TPE", {"constant_liar_type": "max"}, ["constant_liar_type"]),
        ("TPE", {"tpe_args": {"constant_liar_type": None, "n_startup_jobs": 5, "n_ei_candidates": 9}}, []),
        (
            "TPE",
            {"tpe_args": {"constant_liar_type": "mean", "linear_forgetting": 9, "prior_weight": 2, "gamma": 0.1}},
            [f"tpe_args.{name}" for name in ("constant_liar_type", "linear_forgetting", "prior_weight", "gamma")],
        ),
        (
            "Anneal",
            {"optimize_mode": "minimize", "parallel_optimize": True, "constant_liar_type": "max"},
            ["parallel_optimize", "constant_liar_type"],
        ),
        ("SMAC", {"optimize_mode": "minimize", "config_dedup": True}, ["config_dedup"]),
        ("GPTuner", {"selection_num_warm_up": 10_000, "selection_num_starting_points": 20}, []),
        (
            "GPTuner",
            {"selection_num_warm_up": 10_001, "selection_num_starting_points": 21},
            ["selection_num_warm_up", "selection_num_starting_points"],
        ),
        ("MetisTuner", {"selection_num_starting_points": 10_000}, []),
        ("MetisTuner", {"selection_num_starting_points": 10_001}, ["selection_num_starting_points"]),
        ("Random", {"seed": 3}, []),
    ],
)
def test_a_class_argument_without_effect_is_warned_of(
    tmp_path: Path, name: str, class_args: JsonObject, warned_of: list[str]
) -> None:
    (tmp_path / "main.py").write_text("import nni\n")
    config = {
        "experimentName": "example",
        "searchSpace": {"x": {"_type": "uniform", "_value": [0, 1]}},
        "trialCommand": "python3 main.py",
        "trialConcurrency": 1,
        "tuner": {"name": name, "classArgs": class_args},
        "trainingService": {"platform": "local"},
    }

    warnings = load_experiment(config, Settings(home=tmp_path / "home"), str(tmp_path), preflight=False).warnings

    assert [warning.partition(" has no effect: ")[0] for warning in warnings] == [
        f"tuner.classArgs.{path}" for path in warned_of
    ]
    assert all(warning.partition(" has no effect: ")[2] for warning in warnings)


def test_every_wrong_class_argument_is_named() -> None:
    problems = problems_of("TPE", {"optimize_mode": "up", "seed": "x", "kappa": 5})

    assert [problem.field.rpartition(".")[2] for problem in problems] == ["optimize_mode", "seed", "kappa"]


def test_an_unknown_tuner_is_refused_with_those_there_are() -> None:
    (problem,) = problems_of("Tpe", {})

    assert (problem.field, problem.value) == ("tuner.builtinTunerName", "Tpe")
    assert "TPE, Random" in problem.remedy
    with pytest.raises(TunerError, match="'Tpe'"):
        tuner_of("Tpe")


@pytest.mark.parametrize("name", [*builtin.TUNERS, *ADVISORS, *builtin.ASSESSORS, *builtin.REFUSED])
def test_the_case_of_a_name_does_not_matter(name: str) -> None:
    short = name.removesuffix("Tuner")

    assert {builtin_name(spelling) for spelling in (name, name.lower(), name.upper(), short, short.lower())} == {name}
    assert is_advisor(name.lower()) is (name in ADVISORS)


@pytest.mark.parametrize("name", ["Hyperband", "BOHB"])
def test_a_parameter_must_not_have_the_name_of_the_budget(name: str) -> None:
    space, _ = parse_search_space({"TRIAL_BUDGET": {"_type": "uniform", "_value": [0, 1]}})
    (problem,) = check_space(AlgorithmSpec(name, TUNERS[name]), space)

    assert str(problem) == (
        f'TRIAL_BUDGET: {name} gives each trial its budget under this name; got "TRIAL_BUDGET". Rename the parameter'
    )
    assert check_space(AlgorithmSpec("TPE", {}), space) == []
