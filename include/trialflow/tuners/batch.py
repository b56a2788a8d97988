"""NNI's BatchTuner: the sets of parameters that the user has listed, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialflow.algorithms import DirectedClassArgs
from trialflow.messages import Problem, show
from trialflow.tuners.base import Tuner
from trialflow.tuners.history import Suggestion

if TYPE_CHECKING:
    from trialflow.search_space import SearchSpace
    from trialflow.tuners.history import History, NoSuggestion


class Batch(Tuner):
    """A trial gets the chosen value itself, whatever it is, and not under the parameter's name."""

    Args = DirectedClassArgs
    types = ("choice",)
    takes_nested = False

    def suggest(self, history: History) -> Suggestion | NoSuggestion:
        options = history.space.parameters[0].options
        return history.first_untried(Suggestion(option.value) for option in options)

    def check_space(self, space: SearchSpace) -> list[Problem]:
        problems = super().check_space(space)
        if problems:
            return problems
        remedy = 'Write {"combine_params": {"_type": "choice", "_value": [{…}, {…}]}}'
        if len(space.parameters) != 1:
            names = [parameter.name for parameter in space.parameters]
            rule = f"{self.spec.name} takes one parameter, combine_params"
            return [Problem("search space", rule, show(names), remedy)]
        (parameter,) = space.parameters
        if any(option.value is None for option in parameter.options):
            rule = f"{self.spec.name} hands the value itself to the trial, and null is none"
            return [Problem(f"{parameter.label}._value", rule, "null", "Remove it")]
        return []
