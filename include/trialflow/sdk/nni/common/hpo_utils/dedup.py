"""Keeping a tuner from suggesting the same parameters twice."""

import json

import nni
from nni.common.hpo_utils.formatting import deformat_parameters

__all__ = ["Deduplicator"]
# Parts into which what has no steps is divided when all else was tried.
_PARTS = 16


class Deduplicator:
    """Called with formatted parameters, gives them back, or other ones if they were given before.

    Raises `nni.NoMoreTrialError` when there are none left. Unlike NNI, which searches a finer and finer grid then, it
    looks at a part of what is continuous inside of a nested choice.
    """

    def __init__(self, formatted_search_space):
        self._space = formatted_search_space
        self._never_dup = any(map(_never_repeats, formatted_search_space.values()))
        self._history = set()

    def __call__(self, formatted_parameters):
        """Return parameters that were not given before."""
        if self._never_dup or self._is_new(formatted_parameters):
            return formatted_parameters
        for candidate in _list_points(list(self._space.values()), {}):
            if self._is_new(candidate):
                return candidate
        raise nni.NoMoreTrialError("Search space fully explored")

    def add_history(self, formatted_parameters):
        """Count parameters as given."""
        self._history.add(self._name(formatted_parameters))

    def _is_new(self, formatted_parameters):
        before = len(self._history)
        self.add_history(formatted_parameters)
        return len(self._history) > before

    def _name(self, formatted_parameters):
        return json.dumps(deformat_parameters(formatted_parameters, self._space), sort_keys=True)


def _never_repeats(spec):
    if spec.is_nested() or spec.categorical or spec.q is not None:
        return False
    return spec.sigma > 0 if spec.normal_distributed else spec.low < spec.high


def _list_points(specs, chosen):
    """Give every combination of the parameters that are active."""
    if not specs:
        yield dict(chosen)
        return
    spec, others = specs[0], specs[1:]
    if not spec.is_activated_in(chosen):
        yield from _list_points(others, chosen)
        return
    for value in _values(spec):
        yield from _list_points(others, {**chosen, spec.key: value})


def _values(spec):
    if spec.categorical:
        return range(spec.size)
    if spec.normal_distributed:
        return (spec.mu + spec.sigma * (step - _PARTS / 2) / 2 for step in range(_PARTS + 1))
    if spec.q is not None and not spec.log_distributed:
        steps = range(round(spec.low / spec.q), round(spec.high / spec.q) + 1)
        return (min(max(step * spec.q, spec.low), spec.high) for step in steps)
    return (spec.low + (spec.high - spec.low) * step / _PARTS for step in range(_PARTS + 1))
