"""NNI's search space: what each type draws, and how a value travels through an Optuna distribution.

Every parameter has a *label*, the path by which Optuna knows it (``layer/Conv/k`` for the parameter ``k`` of the
option ``Conv`` of the choice ``layer``), and a *latent*: the number or category that Optuna samples.
``encode`` and ``decode`` go from the value that a trial sees to the latent and back, exactly.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from trialflow.records import JsonObject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from optuna.distributions import BaseDistribution

# Beyond it, a float no longer tells whole numbers apart.
LARGEST_INTEGER = 2**53
# Latents of the normal family are z-scores; ±5 leaves out six draws in ten million.
Z_BOUND = 5.0
_NORMAL = NormalDist()
_CHOICE = "choice"
# What stands in the ``_value`` of each type but choice.
ARGUMENT_NAMES = {
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
TYPES = (_CHOICE, *ARGUMENT_NAMES)


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
        if not is_number(value):
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
        yield from walk_all(self.parameters)

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


def _product(steps: int, q: float) -> float:
    return float(steps * (Fraction(q) if abs(steps) > LARGEST_INTEGER else q))


def _ratio(value: float, q: float) -> int:
    """How many steps a value is away from 0; exact also where a float does not hold that number."""
    return round(Fraction(value) / Fraction(q)) if abs(value) > LARGEST_INTEGER * q else round(value / q)


def is_number(value: Any) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # An integer that no float can hold.
        return False


def _exp(value: float) -> float:
    """``exp`` that ends at the largest float instead of raising."""
    return math.exp(min(value, 709.0))


def walk_all(parameters: tuple[Parameter, ...]) -> Iterator[Parameter]:
    for parameter in parameters:
        yield parameter
        for option in parameter.options:
            yield from walk_all(option.nested or ())


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
