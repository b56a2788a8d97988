"""The seam to an algorithm that judges intermediate metrics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from trialflow.algorithms import ClassArgs, check_algorithm, load
from trialflow.builtin import ASSESSORS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trialflow.messages import Problem, ProblemMaker
    from trialflow.records import AlgorithmSpec


class Assessor(ABC):
    """Judges a running trial by its intermediate metrics.

    Order of calls: `is_good` once for each intermediate metric. It keeps nothing between two calls.

    Args:
        spec: Name and class arguments, checked before by `check_assessor`.

    Attributes:
        compares_with_all: Whether running and stopped trials are a measure as well.
    """

    Args: ClassVar[type[ClassArgs]] = ClassArgs
    compares_with_all: ClassVar[bool] = False

    def __init__(self, spec: AlgorithmSpec) -> None:
        self.spec = spec
        self.args = self.Args.model_validate(spec.class_args)

    @abstractmethod
    def is_good(self, history: Sequence[float], others: Sequence[Sequence[float]]) -> bool:
        """Whether the trial should go on.

        Args:
            history: Its intermediate metrics so far, in order; at least one. The last one is to be judged.
            others: The intermediate metrics of every other trial that ended by itself and successfully, or of every
                other trial.
        """


def get_assessor(spec: AlgorithmSpec) -> Assessor:
    """The assessor that an experiment names.

    Raises:
        TunerError: There is none of this name.
    """
    assessor: Assessor = load(ASSESSORS, spec.name)(spec)
    return assessor


def check_assessor(spec: AlgorithmSpec, problem_at: ProblemMaker) -> list[Problem]:
    """What is wrong with the assessor of an experiment file; see `trialflow.algorithms.check_algorithm`."""
    return check_algorithm(spec, "assessor", ASSESSORS, {}, problem_at)
