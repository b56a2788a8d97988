"""Reading a search space, and finding everything that is wrong with it."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from trialflow.messages import Problem, blank_remedy, close_remedy, printable, show
from trialflow.search_space.parameters import (
    ARGUMENT_NAMES,
    LARGEST_INTEGER,
    TYPES,
    Z_BOUND,
    Option,
    Parameter,
    SearchSpace,
    is_number,
    walk_all,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    LineOf = Callable[[tuple[str, ...]], int | None]

# Of a parameter's path, by which Optuna knows it; its column has 512.
_LONGEST_PATH = 500
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
# Of 64 bits with a sign: beyond it, neither numpy nor a trial's own tensors hold an integer.
_LARGEST_RANDINT = 2**63
_WHOLE = re.compile(r"\s*[-+]?[0-9]{1,30}\s*")
_CHOICE = "choice"


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
    unique = (one for one in space.parameters if not twice.intersection(found.label for found in walk_all((one,))))
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
    if not isinstance(kind, str) or kind not in ARGUMENT_NAMES:
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
    form = f"[{', '.join(ARGUMENT_NAMES[kind])}]"
    numbers = [_as_number(item) for item in raw] if isinstance(raw, list) else []
    given = [number for number in numbers if number is not None]
    if len(given) != len(ARGUMENT_NAMES[kind]) or len(given) != len(numbers):
        rule = f"{kind} needs {len(ARGUMENT_NAMES[kind])} finite numbers, {form}"
        report(field, path, rule, raw, _numbers_remedy(kind, form, raw))
        return None
    if kind == "randint":
        given = [math.ceil(number) for number in given]  # As in NNI.
    rule_and_remedy = _numeric_rule_broken(kind, given)
    if rule_and_remedy:
        report(field, path, f"{kind} {form}: {rule_and_remedy[0]}", raw, rule_and_remedy[1])
        return None
    # Only as a float a larger integer is the number that is drawn.
    arguments = tuple(item if abs(item) <= LARGEST_INTEGER else float(item) for item in given)
    return Parameter(name, label, kind, arguments=tuple(given) if kind == "randint" else arguments)


def _numbers_remedy(kind: str, form: str, raw: Any) -> str:
    """What to do about bounds that are too few, too many, or no numbers."""
    if not isinstance(raw, list):
        return f"Write them as a list, {form}"
    wrong = [item for item in raw if _as_number(item) is None]
    if wrong:
        return f"{show(wrong[0])} is no finite number; write {form}"
    arity, quantised = len(ARGUMENT_NAMES[kind]), f"q{kind}"
    if len(raw) > arity and len(raw) == len(ARGUMENT_NAMES.get(quantised, ())):
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
    return value if is_number(value) else None


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


def _is_finite_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True
