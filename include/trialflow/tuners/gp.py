"""NNI's GPTuner: a Gaussian process, asked where the next result promises most (Bergstra et al., 2011, section 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from trialflow.tuners.surrogate import MOST_DRAWN, MOST_STARTS, SurrogateArgs, SurrogateTuner, bounded

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from trialflow.tuners.surrogate import Surrogate


class GPArgs(SurrogateArgs):
    """Class arguments of GPTuner.

    Attributes:
        utility: Expected improvement, upper confidence bound, or probability of improvement.
        kappa: The larger, the more ``ucb`` explores.
        xi: The larger, the more ``ei`` and ``poi`` explore.
        nu: Smoothness of the Matérn kernel.
        alpha: Variance of the noise, in units of the variance of the results.
        selection_num_warm_up: Points at which the utility is looked at; fewer with many results.
        selection_num_starting_points: From so many of the best of them the search goes on.
    """

    utility: Literal["ei", "ucb", "poi"] = "ei"
    kappa: float = 5.0
    xi: float = 0.0
    nu: float = Field(default=2.5, gt=0)
    alpha: float = Field(default=1e-6, gt=0)
    selection_num_warm_up: Annotated[int, bounded(MOST_DRAWN)] = Field(default=100_000, ge=1)
    selection_num_starting_points: Annotated[int, bounded(MOST_STARTS)] = Field(default=250, ge=1)


class GPTuner(SurrogateTuner):
    """NNI's defaults, with the number of points that are looked at bounded."""

    Args = GPArgs
    types = ("choice", "randint", "uniform", "quniform", "loguniform", "qloguniform")

    def kernel_arguments(self) -> tuple[float, float]:
        assert isinstance(self.args, GPArgs)
        return self.args.nu, self.args.alpha

    def search(self, surrogate: Surrogate) -> NDArray[np.float64]:
        from trialflow.tuners.gaussian import search

        assert isinstance(self.args, GPArgs)
        drawn = min(self.args.selection_num_warm_up, surrogate.process.affordable, MOST_DRAWN)
        starts = min(self.args.selection_num_starting_points, MOST_STARTS)
        return search(lambda rows: self._utility(surrogate, rows), surrogate.cube, (drawn, starts), surrogate.rng)

    def _utility(self, surrogate: Surrogate, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """The utility of each row; where it is never negative its logarithm, which has a slope everywhere."""
        import numpy as np
        from scipy.special import ndtr

        assert isinstance(self.args, GPArgs)
        mean, deviation = surrogate.process.predict(points)
        if self.args.utility == "ucb":
            return self.args.kappa * deviation - mean
        improvement = surrogate.losses.min() - mean - self.args.xi
        score = improvement / deviation
        chance: NDArray[np.float64] = ndtr(score)
        if self.args.utility == "poi":
            return _log(chance)
        return _log(improvement * chance + deviation * np.exp(-(score**2) / 2) / np.sqrt(2 * np.pi))


def _log(values: NDArray[np.float64]) -> NDArray[np.float64]:
    import numpy as np

    return np.log(np.maximum(values, np.finfo(float).tiny))
