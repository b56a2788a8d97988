"""Helpers for tuners, assessors, advisors and trial code, by the names that they have in NNI."""

import copy
import os
from enum import Enum

from nni import parameter_expressions

__all__ = [
    "ClassArgsValidator", "MetricType", "NodeType", "OptimizeMode", "convert_dict2tuple", "extract_scalar_history",
    "extract_scalar_reward", "json2parameter", "json2space", "merge_parameter", "split_index",
]  # fmt: skip


class OptimizeMode(Enum):
    """Whether a smaller or a larger metric is better."""

    Minimize = "minimize"
    Maximize = "maximize"


class NodeType:
    """The keys of a search space."""

    ROOT = "root"
    TYPE = "_type"
    VALUE = "_value"
    INDEX = "_index"
    NAME = "_name"


class MetricType:
    """The kinds of metrics."""

    PERIODICAL = "PERIODICAL"
    FINAL = "FINAL"
    REQUEST_PARAMETER = "REQUEST_PARAMETER"


class ClassArgsValidator:
    """The base of checks of class arguments; what `choices` and `range` give, goes into a ``schema.Schema``."""

    def validate_class_args(self, **kwargs):
        """Raise an error when the arguments are wrong."""

    def choices(self, key, *args):
        """Return a check that a value is one of ``args``."""
        return _Check(lambda value: value in args, "{} must be one of {}".format(key, list(args)))

    def range(self, key, keyType, start, end):  # noqa: N803  # as in NNI
        """Return a check that a value is of a type, and from ``start`` to ``end``."""
        rule = "{} must be of type {}, from {} to {}".format(key, keyType.__name__, start, end)
        return _Check(lambda value: isinstance(value, keyType) and start <= value <= end, rule)

    def path(self, key):
        """Return a check that a value is the path of something that exists."""
        rule = "{} must be the path of something that exists".format(key)
        return _Check(lambda value: isinstance(value, str) and os.path.exists(value), rule)


class _Check:
    """A rule as the package `schema` takes it."""

    def __init__(self, holds, rule):
        self.holds = holds
        self.rule = rule

    def validate(self, data):
        """Return the value, or raise an error."""
        if not self.holds(data):
            raise ValueError("{}; got {!r}".format(self.rule, data))
        return data


def extract_scalar_reward(value, scalar_key="default"):
    """Return the number of a metric: the metric, or what stands in it under a key."""
    if isinstance(value, (int, float)):
        return value
    if isinstance(value, dict) and isinstance(value.get(scalar_key), (int, float)):
        return value[scalar_key]
    raise RuntimeError(
        "Incorrect final result: the final result should be float/int, or a dict which has a key named "
        f"{scalar_key!r} whose value is float/int; got {value!r}"
    )


def extract_scalar_history(trial_history, scalar_key="default"):
    """Return the numbers of metrics."""
    return [extract_scalar_reward(value, scalar_key) for value in trial_history]


def split_index(params):
    """Return parameters without NNI's ``_index``: of a choice with an index, only the value."""
    if not isinstance(params, dict):
        return params
    if NodeType.NAME in params:
        return {key: split_index(value) for key, value in params.items() if key != NodeType.INDEX}
    return split_index(params[NodeType.VALUE]) if NodeType.INDEX in params else {
        key: split_index(value) for key, value in params.items()
    }  # fmt: skip


def json2space(x, oldy=None, name=NodeType.ROOT):
    """Return the names of the parameters of a search space, nested ones first; ``oldy``: only those that are active."""
    if isinstance(x, dict) and NodeType.TYPE in x:
        name = "{}-{}".format(name, x[NodeType.TYPE])
        names = []
        if x[NodeType.TYPE] == "choice" and oldy is None:
            names = json2space(x[NodeType.VALUE], None, name)
        elif x[NodeType.TYPE] == "choice":
            index = oldy[NodeType.INDEX]
            names = json2space(x[NodeType.VALUE][index], oldy[NodeType.VALUE], "{}[{}]".format(name, index))
        return [*names, name]
    parts = [json2space(item, _part(oldy, key), "{}[{}]".format(name, key)) for key, item in _parts(x)]
    return [found for part in parts for found in part]


def json2parameter(x, is_rand, random_state, oldy=None, Rand=False, name=NodeType.ROOT):  # noqa: N803  # as in NNI
    """Return parameters, in which a choice stands with its ``_index``; see `split_index`.

    Args:
        x: A search space.
        is_rand: Whether to draw a parameter anew, by its name in `json2space`; the others are taken from ``oldy``.
        random_state: One of numpy's.
        oldy: Parameters that were made before.
        Rand: Draw all.
        name: Of the path in the search space.
    """
    if isinstance(x, dict) and NodeType.TYPE in x:
        kind, value = x[NodeType.TYPE], x[NodeType.VALUE]
        name = "{}-{}".format(name, kind)
        if not (Rand or is_rand[name]):
            return copy.deepcopy(oldy)
        if kind != "choice":
            return getattr(parameter_expressions, kind)(*value, random_state)
        index = random_state.randint(len(value))
        chosen = json2parameter(value[index], is_rand, random_state, None, True, "{}[{}]".format(name, index))
        return {NodeType.INDEX: index, NodeType.VALUE: chosen}
    if not isinstance(x, (dict, list)):
        return copy.deepcopy(x)
    made = {
        key: json2parameter(item, is_rand, random_state, _part(oldy, key), Rand, "{}[{}]".format(name, key))
        for key, item in _parts(x)
    }
    return made if isinstance(x, dict) else list(made.values())


def _parts(x):
    """Return what an object or a list holds, with its keys; options with parameters of their own need a name."""
    if isinstance(x, dict):
        return list(x.items())
    if not isinstance(x, list):
        return []
    if any(isinstance(item, dict) and NodeType.NAME not in item for item in x):
        raise RuntimeError("'_name' key is not found in this nested search space.")
    return list(enumerate(x))


def _part(made, key):
    return made[key] if made else None


def convert_dict2tuple(value):
    """Return nested dicts and lists as tuples, which can be compared and hashed."""
    if isinstance(value, dict):
        return tuple(sorted((key, convert_dict2tuple(item)) for key, item in value.items()))
    return tuple(map(convert_dict2tuple, value)) if isinstance(value, list) else value


def merge_parameter(base_params, override_params):
    """Set the attributes of ``base_params``, an `argparse.Namespace` mostly, to a trial's parameters."""
    if override_params is None:
        return base_params
    is_dict = isinstance(base_params, dict)
    for key, value in override_params.items():
        if not (key in base_params if is_dict else hasattr(base_params, key)):
            raise ValueError(f"Key '{key}' not found in base parameters.")
        before = base_params[key] if is_dict else getattr(base_params, key)
        wanted = (float, int) if isinstance(before, float) else type(before)
        fits = before is None or isinstance(value, wanted)
        if not fits:
            raise TypeError(f"Expected '{key}' in override parameters to be {type(before)}, but found {type(value)}.")
        if is_dict:
            base_params[key] = value
        else:
            setattr(base_params, key, value)
    return base_params
