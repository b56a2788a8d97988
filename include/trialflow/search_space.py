"""NNI's search space: what each type draws, and how a value travels through an Optuna distribution.

Every parameter has a *label*, the path by which Optuna knows it (``layer/Conv/k`` for the parameter ``k`` of the
option ``Conv`` of the choice ``layer``), and a *latent*: the number or category that Optuna samples.
``encode`` and ``decode`` go from the value that a trial sees to the latent and back, exactly.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections import Counter
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from functools import cached_property
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from trialflow.messages import Problem, blank_remedy, close_remedy, printable, show
from trialflow.records import JsonObject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    LineOf = Callable[[tuple[str, ...]], int | None]

    from optuna.distributions import BaseDistribution

# Of a parameter's path, by which Optuna knows it; its column has 512.
_LONGEST_PATH = 500
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
# Beyond it, a float no longer tells whole numbers apart.
_LARGEST_INTEGER = 2**53
# Of 64 bits with a sign: beyond it, neither numpy nor a trial's own tensors hold an integer.
_LARGEST_RANDINT = 2**63
_WHOLE = re.compile(r"\s*[-+]?[0-9]{1,30}\s*")
# Latents of the normal family are z-scores; ±5 leaves out six draws in ten million.
Z_BOUND = 5.0
_NORMAL = NormalDist()
_CHOICE = "choice"
_TYPES_WITH_ARITY = {
    "randint": 2,
    "uniform": 2,
    "quniform": 3,
    "loguniform": 2,
    "qloguniform": 3,
    "normal": 2,
    "qnormal": 3,
    "lognormal": 2,
    "qlognormal": 3,
}
TYPES = (_CHOICE, *_TYPES_WITH_ARITY)
_ARGUMENT_NAMES = {
    "randint": ("lower", "upper"),
    "uniform": ("low", "high"),
    "quniform": ("low", "high", "q"),
    "loguniform": ("low", "high"),
    "qloguniform": ("low", "high", "q"),
    "normal": ("mu", "sigma"),
    "qnormal": ("mu", "sigma", "q"),
    "lognormal": ("mu", "sigma"),
    "qlognormal": ("mu", "sigma", "q"),
}


@dataclass(frozen=True)
class Option:
    """One option of a choice.

    Attributes:
        value: What the trial gets; for a nested option only its ``_name``.
        nested: The parameters that become active with this option, or ``None`` for a plain value.
    """

    value: Any
    nested: tuple[Parameter, ...] | None = None


@dataclass(frozen=True)
class Parameter:
    """One parameter of the search space.

    Attributes:
        name: The key that the trial sees.
        label: Its path from the root of the space.
        type: One of `TYPES`.
        arguments: The numbers of ``_value``; empty for a choice.
        options: The options of a choice.
    """

    name: str
    label: str
    type: str
    arguments: tuple[float, ...] = ()
    options: tuple[Option, ...] = ()

    @property
    def is_normal(self) -> bool:
        """Whether the latent is a z-score, whose prior is N(0, 1)."""
        return "normal" in self.type

    def distribution(self) -> BaseDistribution:
        """The Optuna distribution of the latent."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.type == _CHOICE:
            return CategoricalDistribution(self._categories)
        if self.is_normal:
            return FloatDistribution(-Z_BOUND, Z_BOUND)
        low, high = self.arguments[:2]
        if self.type == "randint":
            return IntDistribution(int(low), int(high) - 1)
        if self.type == "quniform":
            q = self.arguments[2]
            return IntDistribution(_ratio(low, q), _ratio(high, q))
        return FloatDistribution(low, high, log=self.type != "uniform")

    def decode(self, latent: Any) -> Any:
        """The value that the trial gets for a latent; for a nested choice the `Option`."""
        if self.type == _CHOICE:
            return self.options[self._categories.index(latent)]
        if self.type == "randint":
            return int(latent)
        if self.type in ("uniform", "loguniform"):
            return float(latent)
        first, second = self.arguments[:2]
        if self.type == "quniform":
            return float(min(max(_product(latent, self.arguments[2]), first), second))
        if self.type == "qloguniform":
            return self._snap(latent)
        value = first + second * latent
        if "log" in self.type:
            value = _exp(value)
        return self._snap(value) if self.type.startswith("q") else value

    def encode(self, value: Any) -> Any:
        """The latent of a value that a trial got, so that decoding it gives the value again.

        Raises:
            ValueError: The parameter cannot have this value.
        """
        if self.type == _CHOICE:
            return self._categories[self._index_of(value)]
        if not _is_number(value):
            raise ValueError(f"{self.label}: {value!r} is not a finite number")
        if self.is_normal:
            mean, deviation = self.arguments[:2]
            value = math.log(max(value, sys.float_info.min)) if "log" in self.type else value
            return float(min(max((value - mean) / deviation, -Z_BOUND), Z_BOUND))
        low, high = self.arguments[:2]
        if not low <= value <= high or (self.type == "randint" and value == high):
            raise ValueError(f"{self.label}: {value!r} lies outside of [{low}, {high}]")
        if self.type == "randint":
            return int(value)
        return _ratio(value, self.arguments[2]) if self.type == "quniform" else float(value)

    def latent_at(self, share: float) -> Any:
        """The latent below which this share of NNI's prior lies: its quantile.

        quniform rounds a uniform draw, so that its two ends have a smaller share than the points between.

        Args:
            share: From 0 to 1.
        """
        if self.type == _CHOICE:
            return self._categories[min(int(share * len(self.options)), len(self.options) - 1)]
        if self.is_normal:
            inside = min(max(share, _NORMAL.cdf(-Z_BOUND)), _NORMAL.cdf(Z_BOUND))
            return min(max(_NORMAL.inv_cdf(inside), -Z_BOUND), Z_BOUND)
        low, high = self.arguments[:2]
        if self.type == "randint":
            return min(int(low) + int(share * (int(high) - int(low))), int(high) - 1)
        if "log" in self.type:
            logarithm = math.log(low) + share * (math.log(high) - math.log(low))
            return float(min(max(math.exp(logarithm), low), high))
        value = min(max(low + share * (high - low), low), high)
        return round(value / self.arguments[2]) if self.type == "quniform" else float(value)

    def share_of(self, latent: Any) -> float:
        """Where a latent lies in the prior, from 0 to 1; a discrete one in the middle of its share."""
        if self.type == _CHOICE:
            return (self._categories.index(latent) + 0.5) / len(self.options)
        if self.is_normal:
            return _NORMAL.cdf(latent)
        low, high = self.arguments[:2]
        if self.type == "randint":
            return float((latent - low + 0.5) / (high - low))
        if low == high:
            return 0.5
        if self.type == "quniform":
            q = self.arguments[2]
            ends = (min(max((latent + side) * q, low), high) for side in (-0.5, 0.5))
            return float((sum(ends) / 2 - low) / (high - low))
        scale = math.log if "log" in self.type else float
        return (scale(latent) - scale(low)) / (scale(high) - scale(low))

    @property
    def size(self) -> float:
        """How many different values it has, nested parameters included; infinity when it is continuous."""
        if self.type == _CHOICE:
            return sum(1 if option.nested is None else _size(option.nested) for option in self.options)
        if self.type == "randint":
            return self.arguments[1] - self.arguments[0]
        if self.type in ("quniform", "qloguniform"):
            low, high, q = self.arguments
            return round(high / q) - round(low / q) + 1
        return 1 if not self.is_normal and self.arguments[0] == self.arguments[1] else math.inf

    def _index_of(self, value: Any) -> int:
        """Which option a value is; 1, 1.0 and True are different ones."""
        nested = isinstance(value, dict) and "_name" in value
        key = (nested, json.dumps(value["_name"] if nested else value, sort_keys=True))
        if key not in self._indices:
            raise ValueError(f"{self.label}: {value!r} is none of the options")
        return self._indices[key]

    @cached_property
    def _indices(self) -> dict[tuple[bool, str], int]:
        """The index of each option by what tells it apart; of equal options the first."""
        keys = [(option.nested is not None, json.dumps(option.value, sort_keys=True)) for option in self.options]
        return {key: index for index, key in reversed(list(enumerate(keys)))}

    def _snap(self, value: float) -> float:
        q = self.arguments[2]
        steps = value / q
        snapped = round(steps) * q if math.isfinite(steps) else value
        if self.is_normal:
            return float(snapped)
        return float(min(max(snapped, self.arguments[0]), self.arguments[1]))

    @cached_property
    def _categories(self) -> list[Any]:
        """What Optuna sees of the options.

        Optuna compares categories by ``==``, under which 1, 1.0 and True are one, and stores only scalars; where that
        would mix options up, their JSON text stands for them.
        """
        values = [option.value for option in self.options]
        scalars = all(value is None or isinstance(value, (bool, int, float, str)) for value in values)
        if scalars and None not in values and len(set(values)) == len(values):
            return values
        return [f"{index}: {json.dumps(value)}" for index, value in enumerate(values)]


@dataclass(frozen=True)
class SearchSpace:
    """A checked search space: its parameters in the order of the file."""

    parameters: tuple[Parameter, ...]

    def walk(self) -> Iterator[Parameter]:
        """Every parameter, nested ones after the choice that activates them."""
        yield from _walk(self.parameters)

    @property
    def by_label(self) -> dict[str, Parameter]:
        """Every parameter by its label."""
        return {parameter.label: parameter for parameter in self.walk()}

    @property
    def size(self) -> float:
        """How many different points it has; infinity when a parameter is continuous."""
        return _size(self.parameters)

    def build(self, latent_of: Callable[[Parameter], Any]) -> JsonObject:
        """Make a trial's parameters, asking for the latent of each active parameter and of no other."""
        return _build(self.parameters, latent_of)

    def encode(self, parameters: JsonObject) -> dict[str, Any]:
        """The latents of a trial's active parameters, by label; what the space does not know is left out.

        Raises:
            ValueError: A parameter of the space is missing, or has a value that it cannot have.
        """
        return dict(_encode(self.parameters, parameters))


def parse_search_space(
    raw: Any, file: str = "", *, user_class: bool = False, line_of: LineOf | None = None
) -> tuple[SearchSpace, list[Problem]]:
    """Read a search space; with problems, the space holds the parameters that are right.

    Args:
        raw: The object as it was read from JSON or YAML.
        file: Named in the problems.
        user_class: Whether a class of the user's own is handed it. It may have types of its own, or need none at all:
            then any object will do, and the space holds what of it NNI's types describe.
        line_of: Gives the line of a path in the object, or of what is around it.
    """
    if user_class:
        return parse_search_space(raw)[0], _problems_of_user_space(raw, file)
    problems: list[Problem] = []
    report = _Reporter(file, problems, line_of or _no_line)
    if not isinstance(raw, dict):
        rule = 'must be an object of parameters, {"name": {"_type": …, "_value": …}}'
        report("searchSpace", (), rule, raw, blank_remedy(raw) or "Write an object, {} for no parameters")
        return SearchSpace(()), problems
    space = SearchSpace(_parse_parameters(raw, "", (), report))
    twice = {label for label, times in Counter(parameter.label for parameter in space.walk()).items() if times > 1}
    for label in sorted(twice):
        report(label, (label,), "two parameters have this path", label, "Rename one of them")
    unique = (one for one in space.parameters if not twice.intersection(found.label for found in _walk((one,))))
    return (SearchSpace(tuple(unique)) if twice else space), problems


def _no_line(path: tuple[str, ...]) -> int | None:  # noqa: ARG001
    return None


def _problems_of_user_space(raw: Any, file: str) -> list[Problem]:
    if isinstance(raw, dict) and _is_finite_json(raw):
        return []
    rule = "must be an object of finite JSON values; a class of your own is handed it as it is"
    return [Problem("searchSpace", rule, show(raw), "Write an object, without NaN, infinity and dates", file=file)]


@dataclass(frozen=True)
class _Reporter:
    file: str
    problems: list[Problem]
    line_of: LineOf

    def __call__(self, field: str, path: tuple[str, ...], rule: str, value: Any, remedy: str) -> None:
        self.problems.append(Problem(field, rule, show(value), remedy, file=self.file, line=self.line_of(path)))


def _parse_parameters(
    raw: dict[str, Any], prefix: str, path: tuple[str, ...], report: _Reporter
) -> tuple[Parameter, ...]:
    parsed = (
        _parse_parameter(str(name), prefix + str(name), (*path, str(name)), body, report) for name, body in raw.items()
    )
    return tuple(parameter for parameter in parsed if parameter is not None)


def _parse_parameter(
    name: str, label: str, path: tuple[str, ...], body: Any, report: _Reporter
) -> Parameter | None:
    if len(label) > _LONGEST_PATH or _CONTROL.search(label):
        rule = f"a parameter's path must have at most {_LONGEST_PATH} characters, and no control characters"
        report(printable(label)[:60], path, rule, name, "Rename the parameter, or the options above it")
        return None
    if not isinstance(body, dict) or "_type" not in body or "_value" not in body:
        remedy = blank_remedy({name: body}) or blank_remedy(body)
        remedy = remedy or 'Write {"_type": "uniform", "_value": [0, 1]}'
        report(label, path, "must be an object with _type and _value", body, remedy)
        return None
    kind = body["_type"]
    if kind == _CHOICE:
        return _parse_choice(name, label, (*path, "_value"), body["_value"], report)
    if not isinstance(kind, str) or kind not in _TYPES_WITH_ARITY:
        remedy = close_remedy(kind, TYPES) or "Use one of these types"
        report(f"{label}._type", (*path, "_type"), f"must be one of {', '.join(TYPES)}", kind, remedy)
        return None
    return _parse_numeric(name, label, kind, (*path, "_value"), body["_value"], report)


def _parse_choice(
    name: str, label: str, path: tuple[str, ...], raw: Any, report: _Reporter
) -> Parameter | None:
    if not isinstance(raw, list) or not raw:
        report(f"{label}._value", path, "a choice needs a list of at least one option", raw, "List the options")
        return None
    options = tuple(
        _parse_option(f"{label}/", (*path, str(index)), value, report) for index, value in enumerate(raw)
    )
    names = [option.value for option in options if option.nested is not None]
    if len(set(names)) != len(names):
        report(f"{label}._value", path, "nested options need different values of _name", names, "Rename one of them")
        return None
    return Parameter(name, label, _CHOICE, options=options)


def _parse_option(prefix: str, path: tuple[str, ...], value: Any, report: _Reporter) -> Option:
    if not isinstance(value, dict) or "_name" not in value:
        if not _is_finite_json(value):
            report(prefix + "_value", path, "options must be finite JSON values", value, _option_remedy(value))
        elif isinstance(value, dict) and any(isinstance(item, dict) and "_type" in item for item in value.values()):
            remedy = 'Give it one: {"_name": "…", …}'
            report(prefix + "_name", path, "an option with parameters of its own needs a name", value, remedy)
        return Option(value)
    nested = {key: body for key, body in value.items() if key != "_name"}
    option_name = value["_name"]
    if not isinstance(option_name, str):
        report(prefix + "_name", (*path, "_name"), "must be text", option_name, "Put it in quotes")
        return Option(str(option_name))
    return Option(option_name, _parse_parameters(nested, f"{prefix}{option_name}/", path, report))


def _option_remedy(value: Any) -> str:
    dates = [item for item in _leaves(value) if isinstance(item, date)]
    return f'YAML reads {dates[0]} as a date: write "{dates[0]}"' if dates else "Remove NaN and infinity"


def _leaves(value: Any) -> Iterator[Any]:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, (list, set)) else None
    if items is None:
        yield value
    else:
        for item in items:
            yield from _leaves(item)


def _parse_numeric(
    name: str, label: str, kind: str, path: tuple[str, ...], raw: Any, report: _Reporter
) -> Parameter | None:
    field = f"{label}._value"
    form = f"[{', '.join(_ARGUMENT_NAMES[kind])}]"
    numbers = [_as_number(item) for item in raw] if isinstance(raw, list) else []
    given = [number for number in numbers if number is not None]
    if len(given) != _TYPES_WITH_ARITY[kind] or len(given) != len(numbers):
        rule = f"{kind} needs {_TYPES_WITH_ARITY[kind]} finite numbers, {form}"
        report(field, path, rule, raw, _numbers_remedy(kind, form, raw))
        return None
    if kind == "randint":
        given = [math.ceil(number) for number in given]  # As in NNI.
    rule_and_remedy = _numeric_rule_broken(kind, given)
    if rule_and_remedy:
        report(field, path, f"{kind} {form}: {rule_and_remedy[0]}", raw, rule_and_remedy[1])
        return None
    # Only as a float a larger integer is the number that is drawn.
    arguments = tuple(item if abs(item) <= _LARGEST_INTEGER else float(item) for item in given)
    return Parameter(name, label, kind, arguments=tuple(given) if kind == "randint" else arguments)


def _numbers_remedy(kind: str, form: str, raw: Any) -> str:
    """What to do about bounds that are too few, too many, or no numbers."""
    if not isinstance(raw, list):
        return f"Write them as a list, {form}"
    wrong = [item for item in raw if _as_number(item) is None]
    if wrong:
        return f"{show(wrong[0])} is no finite number; write {form}"
    arity, quantised = _TYPES_WITH_ARITY[kind], f"q{kind}"
    if len(raw) > arity and quantised in _TYPES_WITH_ARITY and len(raw) == _TYPES_WITH_ARITY[quantised]:
        return f"Write {arity} numbers, or use {quantised} for steps of a size"
    count = {1: "one", 2: "two", 3: "three"}[arity]
    return f"Write {count} numbers, {form}; to list the values that may be chosen, use choice"


def _as_number(value: Any) -> float | None:
    """A finite number, also one that is written as a text, of which NNI makes one; ``None`` for anything else."""
    if isinstance(value, str) and value.isascii():
        try:
            value = int(value) if _WHOLE.fullmatch(value) else float(value)
        except ValueError:
            return None
    return value if _is_number(value) else None


def _numeric_rule_broken(kind: str, raw: list[float]) -> tuple[str, str] | None:
    """The rule that the numbers of a parameter break, and the remedy."""
    first, second = raw[:2]
    checks = [
        (kind.startswith("q") and raw[2] <= 0, "q must be greater than 0", "Give the step between two values"),
        ("normal" in kind and second <= 0, "sigma must be greater than 0", "Give the standard deviation"),
        (kind in ("normal", "qnormal") and not math.isfinite(abs(first) + Z_BOUND * second + sum(raw[2:])),
         f"what lies within {Z_BOUND:g} sigma of mu must be finite", "Lower the numbers"),
    ]  # fmt: skip
    if "normal" not in kind:
        checks += [
            (kind == "randint" and first >= second,
             "lower must be less than upper, which is not drawn", "Raise the upper bound"),
            (kind == "randint" and not -_LARGEST_RANDINT <= first < second <= _LARGEST_RANDINT,
             "bounds must be integers of 64 bits", "Use uniform for numbers of this size"),
            (first > second, "low must not be greater than high", "Swap the two"),
            (not math.isfinite(float(second) - first), "high - low must be finite", "Bring the two together"),
            (kind.startswith("q") and max(abs(first), abs(second)) > _LARGEST_RANDINT * raw[2],
             "q is too small for these bounds", f"Use {kind[1:]}, or a larger q"),
            ("log" in kind and first <= 0, "low must be greater than 0", "A logarithm needs a positive bound"),
        ]  # fmt: skip
    return next(((rule, remedy) for broken, rule, remedy in checks if broken), None)


def _product(steps: int, q: float) -> float:
    return float(steps * (Fraction(q) if abs(steps) > _LARGEST_INTEGER else q))


def _ratio(value: float, q: float) -> int:
    """How many steps a value is away from 0; exact also where a float does not hold that number."""
    return round(Fraction(value) / Fraction(q)) if abs(value) > _LARGEST_INTEGER * q else round(value / q)


def _is_number(value: Any) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # An integer that no float can hold.
        return False


def _is_finite_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def _exp(value: float) -> float:
    """``exp`` that ends at the largest float instead of raising."""
    return math.exp(min(value, 709.0))


def _walk(parameters: tuple[Parameter, ...]) -> Iterator[Parameter]:
    for parameter in parameters:
        yield parameter
        for option in parameter.options:
            yield from _walk(option.nested or ())


def _size(parameters: tuple[Parameter, ...]) -> float:
    return math.prod(parameter.size for parameter in parameters)


def _encode(parameters: tuple[Parameter, ...], values: JsonObject) -> Iterator[tuple[str, Any]]:
    if not isinstance(values, dict):
        raise ValueError("parameters by name are missing")
    for parameter in parameters:
        if parameter.name not in values:
            raise ValueError(f"{parameter.label} is missing")
        value = values[parameter.name]
        latent = parameter.encode(value)
        yield parameter.label, latent
        if isinstance(value, dict):
            option = parameter.decode(latent)
            yield from _encode(option.nested or (), value)


def _build(parameters: tuple[Parameter, ...], latent_of: Callable[[Parameter], Any]) -> JsonObject:
    built: JsonObject = {}
    for parameter in parameters:
        value = parameter.decode(latent_of(parameter))
        if isinstance(value, Option):
            nested = value.nested
            value = value.value if nested is None else {"_name": value.value, **_build(nested, latent_of)}
        built[parameter.name] = value
    return built
