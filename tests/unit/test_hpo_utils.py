"""The helpers that a tuner of the user's own takes from NNI, in a process that has the standard library only."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from textwrap import dedent
from typing import Any

import pytest

from trialflow.sdk import SDK_FOLDER

SPACE: dict[str, Any] = {
    "n": {"_type": "randint", "_value": [2, 5]},
    "lr": {"_type": "loguniform", "_value": ["1e-4", 0.1]},
    "steps": {"_type": "quniform", "_value": [2, 10, 5]},
    "z": {"_type": "normal", "_value": [1, 2]},
    "layer": {
        "_type": "choice",
        "_value": [
            {"_name": "Conv", "k": {"_type": "choice", "_value": [3, "five"]}},
            {"_name": "Pool"},
        ],
    },
}


def run(code: str) -> Any:
    """What a piece of code prints as JSON, beside our module `nni`, without any installed package."""
    start = f"import json\nfrom nni.common.hpo_utils import *\nspace = json.loads({json.dumps(SPACE)!r})\n"
    environment = {**os.environ, "PYTHONPATH": str(SDK_FOLDER), "TRIALFLOW_TRIAL_SDK": "own"}
    done = subprocess.run(
        [sys.executable, "-S", "-c", start + dedent(code)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_search_space_is_made_flat_as_in_nni() -> None:
    specs = run("print(json.dumps([list(key) for key in format_search_space(space)]))")
    assert specs == [["n"], ["lr"], ["steps"], ["z"], ["layer"], ["layer", 0, "k"]]

    found = run("""
        spec = format_search_space(space)
        lr, steps, z = spec["lr",], spec["steps",], spec["z",]
        print(json.dumps([
            spec["n",].size, spec["n",].categorical, lr.low, lr.high, lr.log_distributed, steps.q, steps.clip,
            z.normal_distributed, z.mu, z.sigma, spec["layer", 0, "k"].is_nested(), spec["layer",].is_nested(),
        ]))
        """)
    logs = [math.log(1e-4), math.log(0.1)]
    assert found == [3, True, *logs, True, 5, [2, 10], True, 1, 2, True, False]


def test_parameters_come_back_from_their_flat_form() -> None:
    found = run("""
        import math
        spec = format_search_space(space)
        flat = {("n",): 1, ("lr",): math.log(0.01), ("steps",): 3.0, ("z",): 0.5, ("layer",): 0, ("layer", 0, "k"): 1}
        made = deformat_parameters(flat, spec)
        again = format_parameters(made, spec)
        print(json.dumps([made, abs(again["lr",] - flat["lr",]) < 1e-9, again["n",], again["layer", 0, "k"]]))
        """)
    made = {"n": 3, "lr": pytest.approx(0.01), "steps": 5, "z": 0.5, "layer": {"_name": "Conv", "k": "five"}}
    assert found == [made, True, 1, 1]


@pytest.mark.parametrize(
    ("space", "types", "sentence"),
    [
        ('{"x": {"_type": "uniform", "_value": [0, 1]}}', None, ""),
        ('{"x": {"_type": "choice", "_value": [0, "a"]}}', ["choice"], ""),
        ('{"x": {"_type": "uniform", "_value": [0, 1]}}', ["choice"], 'has unsupported type "uniform"'),
        ('{"x": {"_type": "uniform", "_value": [0]}}', None, "must have 2 values"),
        ('{"x": {"_type": "uniform", "_value": [1, 0]}}', None, "must have high > low"),
        ('{"x": {"_type": "loguniform", "_value": [0, 1]}}', None, "must have low > 0"),
        ('{"x": {"_type": "normal", "_value": [0, 0]}}', None, "must have sigma > 0"),
        ('{"x": {"_type": "randint", "_value": [0, 1.5]}}', None, "must have int values"),
        ('{"x": {"_type": "choice", "_value": [[1]]}}', None, "numbers and texts"),
        ('{"x": {"_type": "choice"}}', None, 'does not have "_type" or "_value"'),
        ('{"x": 3}', None, "is a int, expect a dict"),
        ("[]", None, "is a list, expect a dict"),
    ],
)
def test_a_search_space_is_checked(space: str, types: list[str] | None, sentence: str) -> None:
    right, raised = run(f"""
        space = json.loads({space!r})
        try:
            validate_search_space(space, {types}, raise_exception=True)
            raised = ""
        except ValueError as error:
            raised = str(error)
        print(json.dumps([validate_search_space(space, {types}), raised]))
        """)
    assert (right, sentence in raised) == (not sentence, True)


def test_no_parameters_are_given_twice() -> None:
    given = run("""
        import nni
        spec = format_search_space({name: space[name] for name in ("n", "steps", "layer")})
        dedup, given = Deduplicator(spec), []
        try:
            while True:
                given.append(deformat_parameters(dedup({("n",): 0, ("steps",): 2.0, ("layer",): 1}), spec))
        except nni.NoMoreTrialError:
            print(json.dumps(given))
        """)
    assert len({json.dumps(point, sort_keys=True) for point in given}) == len(given) == 3 * 3 * 3


def test_a_class_of_the_user_s_own_finds_what_it_imports_where_nni_has_it() -> None:
    assert run("""
        import nni
        from nni import ClassArgsValidator
        from nni.common import enable_multi_thread
        from nni.typehint import Parameters, SearchSpace
        from nni.utils import ClassArgsValidator as same
        check = ClassArgsValidator()
        print(json.dumps([ClassArgsValidator is same, check.path("p").validate("/"), OptimizeMode("minimize").value]))
        """) == [True, "/", "minimize"]
