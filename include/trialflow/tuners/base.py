"""The seam to an algorithm that suggests parameters: an Optuna sampler made for one ask."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from trialflow.algorithms import ClassArgs, check_algorithm, load

if TYPE_CHECKING:
    from collections.abc import Callable

    from optuna.samplers import BaseSampler

    from trialflow.errors import Problem
    from trialflow.records import AlgorithmSpec
    from trialflow.search_space import SearchSpace

# NNI's name → the class
REGISTRY = {
    "TPE": "trialflow.tuners.tpe:TPE",
    "Random": "trialflow.tuners.random:Random",
}
NOT_BUILT = (
    "Anneal",
    "Evolution",
    "SMAC",
    "BatchTuner",
    "GridSearch",
    "NetworkMorphism",
    "MetisTuner",
    "GPTuner",
    "PPOTuner",
    "PBTTuner",
)


class Tuner(ABC):
    """Makes samplers.

    Order of calls: `sampler` once per ask. A sampler keeps nothing between two asks: what it knows, it reads from the
    study, so that a fresh process suggests what one that never stopped would have.

    Args:
        spec: Name and class arguments, checked before by `check_tuner`.
    """

    Args: ClassVar[type[ClassArgs]] = ClassArgs

    def __init__(self, spec: AlgorithmSpec) -> None:
        self.spec = spec
        self.args = self.Args.model_validate(spec.class_args)

    @abstractmethod
    def sampler(self, space: SearchSpace, seed: int) -> BaseSampler:
        """A sampler for one ask.

        Args:
            space: The search space; parameters are known to the sampler by their labels.
            seed: The same seed and the same study give the same suggestion; 0 to 2**32 - 1.
        """


def get_tuner(spec: AlgorithmSpec) -> Tuner:
    """The tuner that an experiment names.

    Raises:
        TunerError: There is none of this name.
    """
    tuner: Tuner = load(REGISTRY, spec.name)(spec)
    return tuner


def check_tuner(spec: AlgorithmSpec, place: Callable[..., Problem]) -> list[Problem]:
    """What is wrong with the tuner of an experiment file; see `trialflow.algorithms.check_algorithm`."""
    return check_algorithm(spec, "tuner", REGISTRY, NOT_BUILT, place)
