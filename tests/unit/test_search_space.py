from __future__ import annotations

import datetime
import json
import math
from typing import Any

import numpy as np
import pytest
from optuna.trial import create_trial

from trialflow.messages import Problem, show
from trialflow.records import JsonObject
from trialflow.search_space import TYPES, Z_BOUND, Parameter, SearchSpace, parse_search_space

DRAWS = 400

# type → numbers, and the range in which every draw lies
NUMERIC: dict[str, tuple[list[float], float, float]] = {
    "randint": ([2, 6], 2, 5),
    "uniform": ([-1.5, 2.5], -1.5, 2.5),
    "quniform": ([2, 10, 5], 2, 10),
    "loguniform": ([0.001, 10], 0.001, 10),
    "qloguniform": ([1, 102, 8], 1, 102),
    "normal": ([10, 2], 0, 20),
    "qnormal": ([10, 2, 0.5], 0, 20),
    "lognormal": ([0, 1], math.exp(-5), math.exp(5)),
    "qlognormal": ([0, 1, 0.25], 0, math.exp(5) + 0.25),
}
NESTED: JsonObject = {
    "layer": {
        "_type": "choice",
        "_value": [
            {"_name": "Empty"},
            {"_name": "Conv", "kernel": {"_type": "choice", "_value": [1, 3, 5]}},
            {
                "_name": "Dense",
                "units": {"_type": "randint", "_value": [8, 65]},
                "drop": {
                    "_type": "choice",
                    "_value": [
                        {"_name": "no"},
                        {"_name": "yes", "rate": {"_type": "uniform", "_value": [0.1, 0.5]}},
                    ],
                },
            },
            "skip",
        ],
    },
    "lr": {"_type": "loguniform", "_value": [0.0001, 0.1]},
}


def space_of(raw: Any) -> SearchSpace:
    space, problems = parse_search_space(raw)
    assert not problems, [str(problem) for problem in problems]
    return space


def parameter_of(kind: str, value: Any) -> Parameter:
    return space_of({"x": {"_type": kind, "_value": value}}).parameters[0]


def problem_of(raw: Any) -> Problem:
    problems = parse_search_space(raw, "space.json")[1]
    assert len(problems) == 1, [str(problem) for problem in problems]
    return problems[0]


def latents(parameter: Parameter, count: int = DRAWS) -> list[Any]:
    rng = np.random.default_rng(7)
    return [parameter.latent_at(rng.random()) for _ in range(count)]


def draws(kind: str, value: Any, count: int = DRAWS) -> list[Any]:
    parameter = parameter_of(kind, value)
    return [parameter.decode(latent) for latent in latents(parameter, count)]


def built(raw: JsonObject, count: int = DRAWS) -> list[JsonObject]:
    rng = np.random.default_rng(7)
    space = space_of(raw)
    return [space.build(lambda parameter: parameter.latent_at(rng.random())) for _ in range(count)]


def test_all_ten_types_are_known() -> None:
    assert set(TYPES) == {"choice", *NUMERIC}


@pytest.mark.parametrize("kind", NUMERIC)
def test_draws_lie_in_the_range_of_the_type(kind: str) -> None:
    numbers, low, high = NUMERIC[kind]

    values = draws(kind, numbers)

    assert low <= min(values) <= max(values) <= high
    assert len(set(values)) > 2
    assert all(type(value) is (int if kind == "randint" else float) for value in values)


@pytest.mark.parametrize("kind", NUMERIC)
def test_optuna_accepts_every_latent_that_is_drawn(kind: str) -> None:
    parameter = parameter_of(kind, NUMERIC[kind][0])
    distribution = parameter.distribution()

    for latent in latents(parameter, 50):
        trial = create_trial(value=1.0, params={"x": latent}, distributions={"x": distribution})
        assert parameter.decode(trial.params["x"]) == parameter.decode(latent)


@pytest.mark.parametrize("kind", NUMERIC)
def test_the_ends_of_the_distribution_decode_to_values_in_range(kind: str) -> None:
    numbers, low, high = NUMERIC[kind]
    parameter = parameter_of(kind, numbers)
    distribution: Any = parameter.distribution()

    assert low <= parameter.decode(distribution.low) < parameter.decode(distribution.high) <= high


def test_randint_draws_its_lower_bound_and_never_its_upper() -> None:
    assert set(draws("randint", [2, 6])) == {2, 3, 4, 5}
    assert set(draws("randint", [3, 4])) == {3}


@pytest.mark.parametrize(
    ("numbers", "points"),
    [
        ([2, 10, 5], {2.0, 5.0, 10.0}),
        ([0, 1, 0.25], {0.0, 0.25, 0.5, 0.75, 1.0}),
        ([1, 2, 10], {1.0}),
        ([-3, 3, 1.5], {-3.0, -1.5, 0.0, 1.5, 3.0}),
    ],
)
def test_quniform_draws_multiples_of_q_clipped_to_the_bounds(
    numbers: list[float], points: set[float]
) -> None:
    assert set(draws("quniform", numbers)) == points


def test_quniform_draws_its_ends_less_often_than_the_points_between() -> None:
    values = draws("quniform", [0, 4, 1], 4000)

    assert 400 < values.count(0.0) < 600
    assert 900 < values.count(2.0) < 1100


@pytest.mark.parametrize(("kind", "q"), [("qnormal", 0.5), ("qlognormal", 0.25)])
def test_the_quantised_normal_types_draw_multiples_of_q(kind: str, q: float) -> None:
    assert all((value / q).is_integer() for value in draws(kind, NUMERIC[kind][0]))


def test_qloguniform_draws_multiples_of_q_clipped_to_the_bounds() -> None:
    values = set(draws("qloguniform", [1, 102, 8], 2000))

    assert {1.0, 8.0, 102.0} <= values <= {1.0, 102.0, *(8.0 * n for n in range(1, 13))}


@pytest.mark.parametrize(
    ("kind", "median"), [("loguniform", 0.1), ("lognormal", 1.0), ("normal", 10.0), ("uniform", 0.5)]
)
def test_half_of_the_draws_lie_below_the_median_of_the_prior(kind: str, median: float) -> None:
    below = sum(value < median for value in draws(kind, NUMERIC[kind][0], 2000))

    assert 900 < below < 1100


def test_the_normal_types_draw_with_the_mean_and_deviation_that_were_asked() -> None:
    values = draws("normal", [10, 2], 4000)

    assert np.mean(values) == pytest.approx(10, abs=0.15)
    assert np.std(values) == pytest.approx(2, abs=0.15)


@pytest.mark.parametrize(
    ("kind", "numbers"),
    [
        ("lognormal", [700, 10]),
        ("qlognormal", [700, 10, 0.001]),
        ("qlognormal", [700, 10, 1e-300]),
        ("qloguniform", [1e-300, 1e15, 1]),
        ("normal", [1e308, 1e307]),
        ("qnormal", [-1e308, 1e307, 1e-300]),
        ("uniform", [5, 5]),
        ("loguniform", [5, 5]),
        ("quniform", [5, 5, 2]),
    ],
)
def test_extreme_numbers_still_draw_finite_values(kind: str, numbers: list[float]) -> None:
    assert all(math.isfinite(value) for value in draws(kind, numbers))
    parameter = parameter_of(kind, numbers)
    if parameter.is_normal:
        assert all(math.isfinite(parameter.decode(end)) for end in (-Z_BOUND, Z_BOUND))
    assert parameter.size > 0


def test_a_bound_beyond_the_integers_that_floats_tell_apart_can_be_reached() -> None:
    parameter = parameter_of("uniform", [0, 10**308])
    assert parameter.encode(parameter.decode(parameter.latent_at(1))) == 1e308


def test_the_same_generator_draws_the_same() -> None:
    assert built(NESTED, 5) == built(NESTED, 5)


OPTIONS = {
    "numbers that are equal": [1, 1.0, True],
    "zeros that are equal": [0, False, 0.0],
    "numbers and their text": [1, "1"],
    "null": [None, "None", "null"],
    "dicts": [{"a": 1}, {"a": 2}, {}],
    "lists": [[1, 2], [], [[1], None]],
    "twice the same": ["a", "a"],
    "mixed": ["relu", 0.5, 3, False, None, {"k": [1, {"l": None}]}],
    "one": ["only"],
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_every_option_reaches_the_trial_as_it_was_written(options: list[Any]) -> None:
    drawn = {json.dumps(params["x"]) for params in built({"x": {"_type": "choice", "_value": options}})}

    assert drawn == {json.dumps(option) for option in options}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_optuna_keeps_every_option_apart(options: list[Any]) -> None:
    parameter = parameter_of("choice", options)
    distribution: Any = parameter.distribution()

    assert len(distribution.choices) == len(options)
    for index, option in enumerate(options):
        latent = distribution.choices[index]
        trial = create_trial(value=1.0, params={"x": latent}, distributions={"x": distribution})
        assert parameter.decode(trial.params["x"]) is parameter.options[index]
        assert json.dumps(parameter.options[index].value) == json.dumps(option)


def test_options_that_optuna_can_tell_apart_stay_readable_in_the_study() -> None:
    assert parameter_of("choice", ["relu", 2, 0.5]).distribution().choices == ("relu", 2, 0.5)


def test_options_are_drawn_equally_often() -> None:
    values = [option.value for option in draws("choice", ["a", "b", "c", "d"], 4000)]

    assert all(900 < values.count(name) < 1100 for name in "abcd")


def test_a_nested_option_brings_its_own_parameters_and_no_others() -> None:
    layers = [params["layer"] for params in built(NESTED)]

    keys = {"Empty": set(), "Conv": {"kernel"}, "Dense": {"units", "drop"}}
    seen = set()
    for layer in layers:
        if layer == "skip":
            seen.add("skip")
            continue
        seen.add(layer["_name"])
        assert set(layer) - {"_name"} == keys[layer["_name"]]
    assert seen == {"Empty", "Conv", "Dense", "skip"}
    drops = [layer["drop"] for layer in layers if layer != "skip" and layer["_name"] == "Dense"]
    assert {tuple(drop) for drop in drops} == {("_name",), ("_name", "rate")}
    assert all(0.1 <= drop["rate"] <= 0.5 for drop in drops if drop["_name"] == "yes")


def test_only_active_parameters_are_asked_for() -> None:
    asked: list[str] = []

    def first_option(parameter: Parameter) -> Any:
        asked.append(parameter.label)
        return parameter.distribution().choices[0] if parameter.options else 0.01

    assert space_of(NESTED).build(first_option) == {"layer": {"_name": "Empty"}, "lr": 0.01}
    assert asked == ["layer", "lr"]


def test_labels_are_paths_through_the_options() -> None:
    assert list(space_of(NESTED).by_label) == [
        "layer",
        "layer/Conv/kernel",
        "layer/Dense/units",
        "layer/Dense/drop",
        "layer/Dense/drop/yes/rate",
        "lr",
    ]


def test_built_parameters_are_json_in_the_order_of_the_file() -> None:
    raw = {kind: {"_type": kind, "_value": numbers} for kind, (numbers, _, _) in NUMERIC.items()}
    parameters = built({**NESTED, **raw}, 1)[0]

    assert list(parameters) == ["layer", "lr", *NUMERIC]
    assert json.loads(json.dumps(parameters, allow_nan=False)) == parameters


BAD: dict[str, tuple[Any, str, str]] = {
    "no object": (5, "x", "_type and _value"),
    "no type": ({"_value": [0, 1]}, "x", "_type and _value"),
    "no value": ({"_type": "uniform"}, "x", "_type and _value"),
    "unknown type": ({"_type": "unifrom", "_value": [0, 1]}, "x._type", "must be one of choice, randint"),
    "type of a list": ({"_type": ["uniform"], "_value": [0, 1]}, "x._type", "must be one of"),
    "type of an object": ({"_type": {}, "_value": [0, 1]}, "x._type", "must be one of"),
    "type of null": ({"_type": None, "_value": [0, 1]}, "x._type", "must be one of"),
    "choice of nothing": ({"_type": "choice", "_value": []}, "x._value", "at least one option"),
    "choice of text": ({"_type": "choice", "_value": "abc"}, "x._value", "a list"),
    "option NaN": ({"_type": "choice", "_value": [1, math.nan]}, "x/_value", "finite JSON"),
    "option infinity inside": ({"_type": "choice", "_value": [{"a": [math.inf]}]}, "x/_value", "finite JSON"),
    "nested names alike": (
        {"_type": "choice", "_value": [{"_name": "a"}, {"_name": "a"}]},
        "x._value",
        "different values of _name",
    ),
    "nested name a number": ({"_type": "choice", "_value": [{"_name": 1}]}, "x/_name", "must be text"),
    "nested name an object": ({"_type": "choice", "_value": [{"_name": {}}]}, "x/_name", "must be text"),
    "nested name null": ({"_type": "choice", "_value": [{"_name": None}]}, "x/_name", "must be text"),
    "nested parameter": (
        {"_type": "choice", "_value": [{"_name": "a", "y": {"_type": "uniform", "_value": [2, 1]}}]},
        "x/a/y._value",
        "low must not be greater than high",
    ),
    "nested without a type": (
        {"_type": "choice", "_value": [{"_name": "a", "y": 3}]},
        "x/a/y",
        "_type and _value",
    ),
    "randint equal": ({"_type": "randint", "_value": [3, 3]}, "x._value", "lower must be less than upper"),
    "randint swapped": ({"_type": "randint", "_value": [5, 3]}, "x._value", "lower must be less than upper"),
    "randint huge": ({"_type": "randint", "_value": [0, 10**30]}, "x._value", "must be integers of 64 bits"),
    "uniform too wide": ({"_type": "uniform", "_value": [-1e308, 1e308]}, "x._value", "must be finite"),
    "quniform q tiny": ({"_type": "quniform", "_value": [0, 1e300, 1e-300]}, "x._value", "q is too small"),
    "qloguniform q tiny": ({"_type": "qloguniform", "_value": [1e-300, 1e300, 1e-200]}, "x._value", "q is too small"),
    "normal too wide": ({"_type": "normal", "_value": [1e308, 1e308]}, "x._value", "of mu must be finite"),
    "normal far below": ({"_type": "normal", "_value": [-1.7e308, 1e307]}, "x._value", "of mu must be finite"),
    "normal of huge integers": ({"_type": "normal", "_value": [10**308, 10**308]}, "x._value", "of mu must be finite"),
    "qnormal rounded up": ({"_type": "qnormal", "_value": [-1.7e308, 1, 10**308]}, "x._value", "of mu must be finite"),
    "qnormal too wide": ({"_type": "qnormal", "_value": [0, 1e308, 1]}, "x._value", "of mu must be finite"),
}
for _kind, (_numbers, _low, _high) in NUMERIC.items():
    _field, _arity = "x._value", f"{_kind} needs {len(_numbers)} finite numbers"
    _many: dict[str, Any] = {
        "too few": _numbers[:-1],
        "too many": [*_numbers, 1],
        "no list": 3,
        "text": ["one", *_numbers[1:]],
        "bool": [True, *_numbers[1:]],
        "null": [None, *_numbers[1:]],
        "NaN": [math.nan, *_numbers[1:]],
        "infinity": [*_numbers[:-1], math.inf],
        "beyond floats": [10**400, *_numbers[1:]],
    }
    for _case, _value in _many.items():
        BAD[f"{_kind} {_case}"] = {"_type": _kind, "_value": _value}, _field, _arity
    if "uniform" in _kind:
        _swapped = [_numbers[1], _numbers[0], *_numbers[2:]]
        BAD[f"{_kind} swapped"] = (
            {"_type": _kind, "_value": _swapped},
            _field,
            "low must not be greater than high",
        )
    if "loguniform" in _kind:
        for _bound in (0, -1):
            _bounds = [_bound, *_numbers[1:]]
            BAD[f"{_kind} from {_bound}"] = (
                {"_type": _kind, "_value": _bounds},
                _field,
                "low must be greater than 0",
            )
    if _kind.startswith("q"):
        for _step in (0, -1):
            _steps = [*_numbers[:2], _step]
            BAD[f"{_kind} q {_step}"] = {"_type": _kind, "_value": _steps}, _field, "q must be greater than 0"
    if "normal" in _kind:
        for _sigma in (0, -1):
            _sigmas = [_numbers[0], _sigma, *_numbers[2:]]
            BAD[f"{_kind} sigma {_sigma}"] = (
                {"_type": _kind, "_value": _sigmas},
                _field,
                "sigma must be greater",
            )


@pytest.mark.parametrize(("body", "field", "rule"), BAD.values(), ids=BAD)
def test_bad_input_is_refused_with_file_field_rule_value_and_remedy(body: Any, field: str, rule: str) -> None:
    problem = problem_of({"x": body})

    assert (problem.file, problem.field) == ("space.json", field)
    assert rule in problem.rule
    assert problem.value
    assert problem.remedy


@pytest.mark.parametrize(
    ("kind", "value", "remedy"),
    [
        ("loguniform", ["a", 1], '"a" is no finite number; write [low, high]'),
        ("loguniform", [True, 1], "true is no finite number; write [low, high]"),
        ("uniform", [1], "Write two numbers, [low, high]; to list the values that may be chosen, use choice"),
        ("uniform", [], "Write two numbers, [low, high]; to list the values that may be chosen, use choice"),
        ("uniform", [0, 1, 0.1], "Write 2 numbers, or use quniform for steps of a size"),
        ("randint", [1, 2, 3], "Write two numbers, [lower, upper]; to list the values that may be chosen, use choice"),
        ("quniform", [1, 2], "Write three numbers, [low, high, q]; to list the values that may be chosen, use choice"),
        ("uniform", 3, "Write them as a list, [low, high]"),
    ],
)
def test_wrong_bounds_come_with_what_is_wrong_about_them(kind: str, value: Any, remedy: str) -> None:
    assert problem_of({"x": {"_type": kind, "_value": value}}).remedy == remedy


def test_a_bound_may_stand_in_quotes_and_an_integer_s_may_be_a_fraction_as_in_nni() -> None:
    raw = {"lr": {"_type": "loguniform", "_value": ["1e-5", " 0.1"]}, "n": {"_type": "randint", "_value": [0.5, "3.2"]}}
    space, problems = parse_search_space(raw)

    assert problems == []
    assert [parameter.arguments for parameter in space.parameters] == [(1e-5, 0.1), (1, 4)]


def test_a_date_among_the_options_is_to_be_put_in_quotes() -> None:
    problem = problem_of({"x": {"_type": "choice", "_value": ["a", {"since": [datetime.date(2020, 1, 2)]}]}})

    assert problem.remedy == 'YAML reads 2020-01-02 as a date: write "2020-01-02"'


@pytest.mark.parametrize(("kind", "bounds"), [("randint", [2**62, 2**63]), ("randint", [-(2**63), 2**63 - 1])])
def test_integers_of_64_bits_are_exact(kind: str, bounds: list[int]) -> None:
    (parameter,) = parse_search_space({"x": {"_type": kind, "_value": bounds}})[0].parameters

    for share in (0, 0.123456789, 0.5, 1):
        value = parameter.decode(parameter.latent_at(share))
        assert isinstance(value, int)
        assert bounds[0] <= value < bounds[1]
        assert parameter.decode(parameter.encode(value)) == value
    assert parameter.distribution().low == bounds[0]
    assert parameter.encode(bounds[1] - 1) == bounds[1] - 1


@pytest.mark.parametrize("q", [1, 3, 0.5])
def test_steps_beyond_what_a_float_counts_come_back_as_they_were(q: float) -> None:
    (parameter,) = parse_search_space({"x": {"_type": "quniform", "_value": [0, 2**60, q]}})[0].parameters

    for share in (0.1, 0.3333333, 0.77, 0.999):
        value = parameter.decode(parameter.latent_at(share))
        assert parameter.decode(parameter.encode(value)) == value


def test_a_space_without_parameters_has_one_point() -> None:
    space, problems = parse_search_space({})

    assert (problems, space.size, space.encode({})) == ([], 1, {})


def test_an_option_with_parameters_but_without_a_name_is_refused() -> None:
    inner = {"_type": "uniform", "_value": [0, 1]}
    plain = [{"a": 1}, {"a": {"b": [inner]}}]

    problem = problem_of({"x": {"_type": "choice", "_value": [*plain, {"k": inner}]}})

    assert (problem.field, problem.rule) == ("x/_name", "an option with parameters of its own needs a name")


@pytest.mark.parametrize("raw", [None, [], "x", 3])
def test_a_search_space_that_is_no_object_of_parameters_is_refused(raw: Any) -> None:
    problem = problem_of(raw)

    assert "must be an object of parameters" in problem.rule
    assert problem.value == json.dumps(raw)


@pytest.mark.parametrize("name", ["x" * 501, "a\x00b", "a\nb", "\ud800", "a\x85b"])
@pytest.mark.parametrize("place", ["parameter", "nested", "option"])
def test_a_name_that_no_database_takes_is_refused(name: str, place: str) -> None:
    number = {"_type": "uniform", "_value": [0, 1]}
    option = {"_name": name, "y": number} if place == "option" else {"_name": "a", name: number}
    space = {name: number} if place == "parameter" else {"x": {"_type": "choice", "_value": [option]}}
    problem = problem_of(space)

    assert problem.rule == "a parameter's path must have at most 500 characters, and no control characters"
    assert str(problem).isprintable()
    assert len(str(problem)) < 400


@pytest.mark.parametrize("name", ["x" * 500, "学习率", "a b", "Größe/√2"])
def test_any_other_name_is_taken(name: str) -> None:
    space, problems = parse_search_space({name: {"_type": "uniform", "_value": [0, 1]}})

    assert (space.parameters[0].name, problems) == (name, [])


def test_two_parameters_with_the_same_path_are_refused() -> None:
    inner = {"_type": "uniform", "_value": [0, 1]}

    problem = problem_of({"x/a/y": inner, "x": {"_type": "choice", "_value": [{"_name": "a", "y": inner}]}})

    assert problem.field == "x/a/y"
    assert "two parameters have this path" in problem.rule


def test_every_problem_is_listed_and_what_is_right_is_kept() -> None:
    space, problems = parse_search_space(
        {
            "a": {"_type": "uniform", "_value": [1, 0]},
            "b": {"_type": "uniform", "_value": [0, 1]},
            "c": {"_type": "choice", "_value": []},
            "d": {"_type": "nope", "_value": []},
        }
    )

    assert [problem.field for problem in problems] == ["a._value", "c._value", "d._type"]
    assert [parameter.name for parameter in space.parameters] == ["b"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"a": [1, None]}, '{"a": [1, null]}'),
        ("zwei\n", '"zwei\\n"'),
        ("\ud800", '"\\ud800"'),
        ("ä", '"ä"'),
        ({"user": "u", "passWord": "hunter2"}, '{"user": "u", "passWord": "…"}'),
        ([{"passwd": "hunter2"}], '[{"passwd": "…"}]'),
        ("x" * 100, '"' + "x" * 58 + "…"),
    ],
)
def test_a_value_is_quoted_short_printable_and_without_secrets(value: Any, shown: str) -> None:
    assert show(value) == shown
    assert show(value).encode()


CHOICES: list[Any] = [1, 1.0, True, "a", None, [2, {"b": 3}], {"b": 3}, {"b": [1, None]}, "1"]
EVERYTHING: JsonObject = {
    **NESTED,
    "choice": {"_type": "choice", "_value": CHOICES},
    **{kind: {"_type": kind, "_value": numbers} for kind, (numbers, _, _) in NUMERIC.items()},
}


def test_what_a_trial_got_is_encoded_and_decoded_exactly() -> None:
    space = space_of(EVERYTHING)

    for parameters in built(EVERYTHING, 200):
        latents = space.encode(json.loads(json.dumps(parameters)))
        again = space.build(lambda parameter, latents=latents: latents[parameter.label])
        # A z-score is the nearest float to the one that gives the value.
        assert [repr(value) for value in again.values() if not isinstance(value, float)] == [
            repr(value) for value in parameters.values() if not isinstance(value, float)
        ]
        assert [v for v in again.values() if isinstance(v, float)] == pytest.approx(
            [v for v in parameters.values() if isinstance(v, float)], rel=1e-12
        )
        assert {label: space.by_label[label].distribution() for label in latents}.keys() == latents.keys()


@pytest.mark.parametrize("kind", NUMERIC)
def test_optuna_accepts_every_latent_that_is_encoded(kind: str) -> None:
    parameter = parameter_of(kind, NUMERIC[kind][0])
    distribution = parameter.distribution()

    for latent in latents(parameter, 50):
        again = parameter.encode(parameter.decode(latent))
        create_trial(value=1.0, params={"x": again}, distributions={"x": distribution})


def test_parameters_that_the_space_does_not_know_are_left_out_of_the_latents() -> None:
    space = space_of({"x": {"_type": "uniform", "_value": [0, 1]}})

    assert space.encode({"x": 0.5, "TRIAL_BUDGET": 3}) == {"x": 0.5}


@pytest.mark.parametrize(
    ("kind", "numbers", "value"),
    [
        ("uniform", [0, 1], 1.1),
        ("uniform", [0, 1], "0.5"),
        ("randint", [0, 4], 4),
        ("quniform", [0, 4, 2], -1),
        ("loguniform", [1, 4], 0),
        ("choice", ["a", 1], True),
        ("choice", ["a", 1], "b"),
        ("choice", [{"_name": "a"}], {"_name": "b"}),
        ("choice", [{"_name": "a"}], "a"),
    ],
)
def test_a_value_that_a_parameter_cannot_have_is_not_encoded(kind: str, numbers: list[Any], value: Any) -> None:
    with pytest.raises(ValueError, match="x: "):
        space_of({"x": {"_type": kind, "_value": numbers}}).encode({"x": value})


def test_a_parameter_that_is_missing_is_not_encoded() -> None:
    with pytest.raises(ValueError, match="layer/Conv/kernel is missing"):
        space_of(NESTED).encode({"layer": {"_name": "Conv"}, "lr": 0.01})


@pytest.mark.parametrize("kind", NUMERIC)
def test_the_share_of_a_latent_leads_back_to_its_value(kind: str) -> None:
    parameter = parameter_of(kind, NUMERIC[kind][0])

    for latent in latents(parameter, 100):
        share = parameter.share_of(latent)
        assert 0 <= share <= 1
        assert parameter.decode(parameter.latent_at(share)) == pytest.approx(parameter.decode(latent), rel=1e-6)


@pytest.mark.parametrize("kind", NUMERIC)
def test_the_ends_of_the_prior_are_the_ends_of_the_range(kind: str) -> None:
    numbers, low, high = NUMERIC[kind]
    parameter = parameter_of(kind, numbers)

    ends = [parameter.decode(parameter.latent_at(share)) for share in (0.0, 1.0)]

    assert ends == pytest.approx([low, high], rel=0.01, abs=0.25)


def test_the_options_of_a_choice_have_equal_shares() -> None:
    parameter = parameter_of("choice", ["a", "b", "c", "d"])

    assert [parameter.latent_at(share) for share in (0.0, 0.3, 0.5, 0.99, 1.0)] == ["a", "b", "c", "d", "d"]
    assert parameter.share_of("b") == 0.375


@pytest.mark.parametrize(
    ("raw", "size"),
    [
        ({"x": {"_type": "choice", "_value": [1, 2, 3]}}, 3),
        ({"x": {"_type": "randint", "_value": [2, 6]}}, 4),
        ({"x": {"_type": "quniform", "_value": [2, 10, 5]}}, 3),
        ({"x": {"_type": "qloguniform", "_value": [1, 102, 8]}}, 14),
        ({"x": {"_type": "uniform", "_value": [1, 1]}}, 1),
        ({"x": {"_type": "uniform", "_value": [1, 2]}}, math.inf),
        ({"x": {"_type": "qnormal", "_value": [1, 2, 3]}}, math.inf),
        ({"x": {"_type": "choice", "_value": [1, 2]}, "y": {"_type": "randint", "_value": [0, 5]}}, 10),
        ({"layer": {**NESTED["layer"], "_value": NESTED["layer"]["_value"][:2]}}, 4),
        (NESTED, math.inf),
    ],
)
def test_a_space_knows_how_many_points_it_has(raw: JsonObject, size: float) -> None:
    assert space_of(raw).size == size
    if size < 20:
        assert len({json.dumps(point) for point in built(raw, 2000)}) == size
