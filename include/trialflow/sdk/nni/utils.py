"""Helpers for tuners, assessors, advisors and trial code, by the names that they have in NNI."""

from enum import Enum

__all__ = [
    "ClassArgsValidator", "MetricType", "NodeType", "OptimizeMode", "convert_dict2tuple", "extract_scalar_history",
    "extract_scalar_reward", "merge_parameter", "split_index",
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
    """The base of checks of class arguments."""

    def validate_class_args(self, **kwargs):
        """Raise an error when the arguments are wrong."""


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
