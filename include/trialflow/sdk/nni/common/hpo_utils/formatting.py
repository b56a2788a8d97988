"""A search space as a flat dict of `ParameterSpec`, and parameters in its terms; as NNI's tuners use it.

The key of a parameter is its path: names, and after the name of a choice the index of the option in which it is nested,
``("layer", 1, "size")``. In formatted parameters a choice is the index of its option, a randint its distance from the
lower bound, and what has a logarithm is that.
"""

import math
from typing import Any, NamedTuple

__all__ = ["ParameterSpec", "deformat_parameters", "format_parameters", "format_search_space"]


class ParameterSpec(NamedTuple):
    """One parameter; ``low``, ``high``, ``mu`` and ``sigma`` are those of the logarithm where it has one."""

    name: str
    type: str
    values: Any
    key: Any
    categorical: bool
    size: Any = None
    chosen_size: Any = 1
    low: Any = None
    high: Any = None
    normal_distributed: Any = None
    mu: Any = None
    sigma: Any = None
    q: Any = None
    clip: Any = None
    log_distributed: Any = None

    def is_activated_in(self, partial_parameters):
        """Return whether the option in which the parameter is nested, if it is, was chosen."""
        return not self.is_nested() or partial_parameters[self.key[:-2]] == self.key[-2]

    def is_nested(self):
        """Return whether the parameter stands in an option of a choice."""
        return len(self.key) >= 2 and isinstance(self.key[-2], int)


def format_search_space(search_space):
    """Return the specs of a search space by their keys, nested ones behind the choice in which they stand."""
    return {spec.key: spec for spec in _format_space((), search_space)}


def deformat_parameters(formatted_parameters, formatted_search_space):
    """Return the parameters that a trial gets."""
    made = {}  # type: ignore[var-annotated]
    for key, value in formatted_parameters.items():
        spec = formatted_search_space[key]
        if spec.type == "choice" and _is_nested(spec.values):
            _assign(made, (*key, "_name"), spec.values[value]["_name"])
        else:
            _assign(made, key, _deformat(spec, value))
    return made


def format_parameters(parameters, formatted_search_space):
    """Return what `deformat_parameters` has made of parameters that a trial got; steps of q stay as they are."""
    formatted = {}  # type: ignore[var-annotated]
    for key, spec in formatted_search_space.items():
        if spec.is_activated_in(formatted):
            value = parameters
            for name in key:
                value = value[name] if isinstance(name, str) else value
            formatted[key] = _format(spec, value)
    return formatted


def _format_space(parent, space):
    specs = []
    for name, body in space.items():
        if name == "_name":
            continue
        key = (*parent, name)
        specs.append(_format_parameter(key, body["_type"], body["_value"]))
        if body["_type"] == "choice" and _is_nested(body["_value"]):
            for index, inner in enumerate(body["_value"]):
                specs += _format_space((*key, index), inner)
    return specs


def _format_parameter(key, kind, values):
    common = {"name": key[-1], "type": kind, "values": values, "key": key, "categorical": kind in ("choice", "randint")}
    if kind == "choice":
        return ParameterSpec(size=len(values), **common)
    if kind == "randint":
        return ParameterSpec(size=math.ceil(float(values[1])) - math.ceil(float(values[0])), **common)
    is_log, is_normal = "log" in kind, "normal" in kind
    first, second = float(values[0]), float(values[1])
    q = float(values[2]) if kind.startswith("q") else None
    common.update(normal_distributed=is_normal, log_distributed=is_log, q=q)
    if is_normal:
        return ParameterSpec(mu=first, sigma=second, **common)
    clip = None if q is None else (first, second)
    if is_log:
        first, second = math.log(first), math.log(second)
    return ParameterSpec(low=first, high=second, clip=clip, **common)


def _lower_bound(spec):
    return min(math.ceil(float(bound)) for bound in spec.values)


def _deformat(spec, value):
    if spec.type == "choice":
        return spec.values[value]
    if spec.type == "randint":
        return int(_lower_bound(spec) + value)
    value = math.exp(value) if spec.log_distributed else value
    if spec.q is not None:
        value = round(value / spec.q) * spec.q
    if spec.clip:
        value = min(max(value, spec.clip[0]), spec.clip[1])
    return value.item() if hasattr(value, "item") else value  # A number of numpy's.


def _format(spec, value):
    if spec.type == "choice" and _is_nested(spec.values):
        return [option["_name"] for option in spec.values].index(value["_name"])
    if spec.type == "choice":
        return spec.values.index(value)
    if spec.type == "randint":
        return value - _lower_bound(spec)
    return math.log(value) if spec.log_distributed else value


def _is_nested(options):
    return all(isinstance(option, dict) and "_name" in option for option in options)


def _assign(made, key, value):
    """Write a value to a path; the indices of options in it are left out."""
    names = [name for name in key if isinstance(name, str)]
    for name in names[:-1]:
        made = made.setdefault(name, {})
    made[names[-1]] = value
