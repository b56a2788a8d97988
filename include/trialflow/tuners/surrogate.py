"""Tuners that look for the next point on a Gaussian process, fitted to the results so far."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from trialflow.algorithms import SeededClassArgs, WithoutEffect
from trialflow.tuners.drawing import DrawingTuner

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from numpy.typing import NDArray

    from trialflow.tuners.cube import Cube
    from trialflow.tuners.gaussian import Process
    from trialflow.tuners.history import History, NoSuggestion, Suggestion

# Enough to find the highest peak; more of them cost time and find nothing.
MOST_DRAWN = 10_000
MOST_STARTS = 20
# Larger ones are scaled down: their squares are added up.
_LARGEST_LOSS = 1e100


def bounded(most: int) -> WithoutEffect:
    """The mark of a number of points of which no more than so many are taken."""
    return WithoutEffect(f"no more than {most} points are taken; more of them find nothing", lambda value: value > most)


class SurrogateArgs(SeededClassArgs):
    """Class arguments that these tuners share.

    Attributes:
        cold_start_num: Results that are waited for before the process is used.
    """

    cold_start_num: int = Field(default=10, ge=1)


@dataclass(frozen=True)
class Surrogate:
    """What is known of an experiment's results.

    Attributes:
        points: Of the results, one per row.
        losses: One per row.
        process: Conditioned on the running trials as well, as if their results were what it expects: so parallel
            suggestions spread.
    """

    cube: Cube
    points: NDArray[np.float64]
    losses: NDArray[np.float64]
    process: Process
    rng: np.random.Generator


class SurrogateTuner(DrawingTuner):
    """Takes numbers only; the first suggestions are drawn from the prior."""

    types: ClassVar[tuple[str, ...]] = ("choice", "randint", "uniform", "quniform")
    takes_nested = False
    takes_only_numbers = True
    most_candidates = 1000

    @abstractmethod
    def search(self, surrogate: Surrogate) -> NDArray[np.float64]:
        """Points of the cube in the order of preference, one per row."""

    def suggest(self, history: History) -> Suggestion | NoSuggestion:
        from threadpoolctl import threadpool_limits

        # The matrices are small, and the machine has trials to run.
        with threadpool_limits(limits=1):
            return super().suggest(history)

    def candidates(self, history: History) -> Iterable[Suggestion]:
        assert isinstance(self.args, SurrogateArgs)
        if len(history.results) < max(self.args.cold_start_num, 2):
            return history.prior_candidates()
        surrogate = self._fit(history)
        return (history.suggestion(surrogate.cube.latents(point)) for point in self.search(surrogate))

    def _fit(self, history: History) -> Surrogate:
        import numpy as np

        from trialflow.tuners.cube import Cube
        from trialflow.tuners.gaussian import Process

        rng, cube = history.generator(), Cube(history.space)
        points = cube.points([result.latents for result in history.results])
        losses = np.array([result.loss for result in history.results])
        losses /= max(np.abs(losses).max() / _LARGEST_LOSS, 1.0)
        nu, alpha = self.kernel_arguments()
        process = Process.fit(points, losses, nu, alpha, int(rng.integers(2**31)))
        return Surrogate(cube, points, losses, process.given(cube.points(list(history.live))), rng)

    def kernel_arguments(self) -> tuple[float, float]:
        """Smoothness of the Matérn kernel, and variance of the noise in units of the variance of the results."""
        return 2.5, 1e-4
