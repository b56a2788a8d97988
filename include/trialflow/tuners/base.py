"""The seam to an algorithm that suggests parameters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar, Literal

from trialflow.algorithms import ClassArgs, check_algorithm, load
from trialflow.builtin import ADVISORS, REFUSED, TUNERS
from trialflow.messages import Problem, show
from trialflow.search_space import TYPES

if TYPE_CHECKING:
    from trialflow.messages import ProblemMaker
    from trialflow.records import AlgorithmSpec
    from trialflow.search_space import Parameter, SearchSpace
    from trialflow.tuners.history import History, NoSuggestion, Suggestion


class Tuner(ABC):
    """Suggests parameters.

    Order of calls: `suggest` once per ask, with the history as it is then. A tuner keeps nothing between two asks:
    what it knows, it reads from the history, so that a fresh process suggests what one that never stopped would have.

    Args:
        spec: Name and class arguments, checked before by `check_tuner`.

    Attributes:
        types: The types of parameters that it takes.
        takes_nested: Whether it takes choices with options that have parameters of their own.
        takes_only_numbers: Whether all options of a choice have to be numbers.
        requires: A module that is not always installed, and the extra of Trialflow that brings it.
    """

    Args: ClassVar[type[ClassArgs]] = ClassArgs
    types: ClassVar[tuple[str, ...]] = TYPES
    takes_nested: ClassVar[bool] = True
    takes_only_numbers: ClassVar[bool] = False
    requires: ClassVar[tuple[str, str] | None] = None

    def __init__(self, spec: AlgorithmSpec) -> None:
        self.spec = spec
        self.args = self.Args.model_validate(spec.class_args)

    @abstractmethod
    def suggest(self, history: History) -> Suggestion | NoSuggestion:
        """Suggest what to try next; the same for the same history."""

    def check_space(self, space: SearchSpace) -> list[Problem]:
        """What it cannot take of a search space."""
        return [problem for parameter in space.walk() if (problem := self._check_parameter(parameter)) is not None]

    def _check_parameter(self, parameter: Parameter) -> Problem | None:
        name, values = self.spec.name, [option.value for option in parameter.options]
        if parameter.type not in self.types:
            remedy = f"Use one of {', '.join(self.types)}, or another tuner, TPE for instance"
            rule = f"{name} does not take parameters of this type"
            return Problem(f"{parameter.label}._type", rule, show(parameter.type), remedy)
        if any(option.nested is not None for option in parameter.options) and not self.takes_nested:
            rule = f"{name} does not take options with parameters of their own"
            return Problem(f"{parameter.label}._value", rule, show(values), "Use TPE, Random, Anneal or Evolution")
        if self.takes_only_numbers and not all(type(value) in (int, float) for value in values):
            rule = f"{name} takes choices of numbers only"
            return Problem(f"{parameter.label}._value", rule, show(values), "Use numbers, or another tuner")
        return None


def get_tuner(spec: AlgorithmSpec) -> Tuner:
    """The tuner or advisor that an experiment names.

    Raises:
        TunerError: There is none of this name.
    """
    tuner: Tuner = load({**TUNERS, **ADVISORS}, spec.name)(spec)
    return tuner


def check_tuner(
    spec: AlgorithmSpec, problem_at: ProblemMaker, *, section: Literal["tuner", "advisor"] = "tuner"
) -> list[Problem]:
    """What is wrong with the tuner of an experiment file; see `trialflow.algorithms.check_algorithm`.

    Args:
        spec: As the file names it.
        problem_at: Makes a problem with a field of the file.
        section: Where the file names it; NNI 3.0 takes tuners and advisors in either.
    """
    registry = {**TUNERS, **ADVISORS} if section == "tuner" else {**ADVISORS, **TUNERS}
    problems = check_algorithm(spec, section, registry, REFUSED, problem_at)
    if problems:
        return problems
    tuner = get_tuner(spec)
    if tuner.requires and find_spec(tuner.requires[0]) is None:
        remedy = f"Install trialflow[{tuner.requires[1]}] where Airflow runs"
        return [problem_at((section, f"builtin{section.capitalize()}Name"), "is not installed", spec.name, remedy)]
    return []


def check_space(spec: AlgorithmSpec, space: SearchSpace) -> list[Problem]:
    """What a tuner, checked before, cannot take of a search space; one of the user's own says so by itself."""
    return [] if spec.user_class is not None else get_tuner(spec).check_space(space)
