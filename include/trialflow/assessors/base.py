"""The seam to an algorithm that judges intermediate metrics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from trialflow.algorithms import ClassArgs, check_algorithm, load

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trialflow.errors import Problem
    from trialflow.records import AlgorithmSpec

# NNI's name → the class
REGISTRY = {
    "Medianstop": "trialflow.assessors.medianstop:Medianstop",
}
NOT_BUILT = ("Curvefitting",)


class Assessor(ABC):
    """Judges a running trial by its intermediate metrics.

    Order of calls: `is_good` whenever a trial has reported something new. It keeps nothing between two calls.

    Args:
        spec: Name and class arguments, checked before by `check_assessor`.
    """

    Args: ClassVar[type[ClassArgs]] = ClassArgs

    def __init__(self, spec: AlgorithmSpec) -> None:
        self.spec = spec
        self.args = self.Args.model_validate(spec.class_args)

    @abstractmethod
    def is_good(self, history: Sequence[float], completed: Sequence[Sequence[float]]) -> bool:
        """Whether the trial should go on.

        Args:
            history: Its intermediate metrics so far, in order; at least one.
            completed: The intermediate metrics of every trial that ended by itself and successfully.
        """


def get_assessor(spec: AlgorithmSpec) -> Assessor:
    """The assessor that an experiment names.

    Raises:
        TunerError: There is none of this name.
    """
    assessor: Assessor = load(REGISTRY, spec.name)(spec)
    return assessor


def check_assessor(spec: AlgorithmSpec, place: Callable[..., Problem]) -> list[Problem]:
    """What is wrong with the assessor of an experiment file; see `trialflow.algorithms.check_algorithm`."""
    return check_algorithm(spec, "assessor", REGISTRY, NOT_BUILT, place)
