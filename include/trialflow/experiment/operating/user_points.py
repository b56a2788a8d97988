"""Checking what people give: the parameters of a hand-made trial, and results that are imported."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from trialflow.config.nodes import require_bounded
from trialflow.errors import ConfigError
from trialflow.messages import Problem, show
from trialflow.metrics import read_number
from trialflow.records import KnownPoint
from trialflow.search_space import parse_search_space

if TYPE_CHECKING:
    from trialflow.records import Experiment, JsonObject

MOST_POINTS = 10_000
_MOST_BYTES = 1 << 16
_FORM = 'Write a list of {"parameter": {…}, "value": number}, as an export does'


def check_parameters(experiment: Experiment, raw: Any) -> JsonObject:
    """The parameters of a hand-made trial: the names of the search space, with any values.

    Values need not lie in the search space; those that do not are tried, and mean nothing to the tuner. A tuner of the
    user's own may suggest anything, and so may a person beside it.

    Raises:
        ConfigError: Names are missing or unknown, or the values cannot be handed to a trial.
    """
    rule = _broken_rule(raw)
    if rule:
        raise ConfigError([Problem("parameters", rule, show(raw), 'Write {"name": value}')])
    if experiment.spec.suggests_itself:
        return dict(raw)
    space = parse_search_space(experiment.spec.search_space)[0]
    names = {parameter.name for parameter in space.parameters}
    # A BatchTuner's trials get the option itself, not under the parameter's name.
    options = [option.value for parameter in space.parameters for option in parameter.options]
    if set(raw) != names and raw not in options:
        remedy = f"Give a value for each of: {', '.join(sorted(names))}"
        raise ConfigError([Problem("parameters", "must have the names of the search space", show(sorted(raw)), remedy)])
    parameters: JsonObject = raw
    return parameters


def read_known_points(raw: Any) -> list[KnownPoint]:
    """Results to be imported, in the form in which they are exported.

    Raises:
        ConfigError: With everything that is wrong.
    """
    if not isinstance(raw, list) or not 1 <= len(raw) <= MOST_POINTS:
        raise ConfigError([Problem("data", f"must be a list of 1 to {MOST_POINTS} results", show(raw), _FORM)])
    problems: list[Problem] = []
    points = []
    for index, item in enumerate(raw):
        try:
            points.append(_read_point(f"[{index}]", item))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return points


def count_fitting(experiment: Experiment, points: list[KnownPoint]) -> int:
    """How many points lie in the search space, so that they mean something to the tuner; one's own is told them all."""
    if experiment.spec.suggests_itself:
        return len(points)
    space = parse_search_space(experiment.spec.search_space)[0]
    fitting = 0
    for point in points:
        try:
            space.encode(point.parameters)
        except ValueError:
            continue
        fitting += 1
    return fitting


def _read_point(field: str, item: Any) -> KnownPoint:
    if not isinstance(item, dict) or "parameter" not in item or "value" not in item:
        raise ConfigError([Problem(field, "needs the keys parameter and value", show(item), _FORM)])
    rule = _broken_rule(item["parameter"])
    if rule:
        raise ConfigError([Problem(f"{field}.parameter", rule, show(item["parameter"]), _FORM)])
    value, wrong = read_number(_reported(item["value"]))
    if value is None or not math.isfinite(value):
        raise ConfigError([Problem(f"{field}.value", wrong or "must be finite", show(item["value"]), _FORM)])
    return KnownPoint(item["parameter"], value)


def _reported(value: Any) -> Any:
    """The metric itself: NNI 2.x and 3.x export it as a JSON text."""
    with suppress(ValueError, RecursionError):
        return json.loads(value) if isinstance(value, str) else value
    return value


def _broken_rule(raw: Any) -> str:
    """What is wrong with parameters by themselves; empty when nothing is."""
    if not isinstance(raw, dict) or not raw:
        return "must be an object of parameters"
    try:
        require_bounded(raw)
    except ValueError as error:
        return f"cannot be taken: {error}"
    try:
        size = len(json.dumps(raw, allow_nan=False))
    except ValueError:
        return "must hold finite numbers only"
    return "" if size <= _MOST_BYTES else f"must not be larger than {_MOST_BYTES} bytes"
