"""NNI's MetisTuner (Li et al., 2018): tries what would teach most about where the optimum lies.

A Gaussian process predicts the results. There are up to three candidates: the point whose result may be the lowest, at
the end of the interval in which it is expected (NNI divides its width by the mean, which means the same for results
above zero, and nothing for others); a point that lies among the good ones and not among the bad ones, by two Gaussian
mixtures; and, when results may be noisy, a point whose result does not fit its surroundings. Each is judged by how low
the expected optimum would be if its result lay at either end of the interval in which it is expected.
"""

from __future__ import annotations

import warnings
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from trialflow.tuners.history import point_of
from trialflow.tuners.surrogate import MOST_DRAWN, MOST_STARTS, SurrogateArgs, SurrogateTuner, bounded

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from trialflow.tuners.gaussian import Process
    from trialflow.tuners.history import History, Suggestion
    from trialflow.tuners.surrogate import Surrogate

    Points = NDArray[np.float64]

# Half the width of an interval that holds 95 in 100 results, in standard deviations.
_CONFIDENCE = 1.96
_GOOD_SHARE = 0.34
_LEAST_FOR_MIXTURES = 12
_LEAST_FOR_RESAMPLING = 50
_MOST_RESULTS_PER_POINT = 3
# Enough for the matrices' rank.
_NO_NOISE = 1e-8


class MetisArgs(SurrogateArgs):
    """Class arguments of MetisTuner.

    Attributes:
        no_resampling: Whether results are free of noise, so that no point is tried twice.
        no_candidates: Whether the expected optimum is tried and nothing else.
        selection_num_starting_points: Points among which optimum and candidates are looked for.
        exploration_probability: How often a candidate is tried rather than the expected optimum.
    """

    no_resampling: bool = True
    no_candidates: bool = False
    selection_num_starting_points: Annotated[int, bounded(MOST_DRAWN)] = Field(default=600, ge=1)
    exploration_probability: float = Field(default=0.9, ge=0, le=1)


class Metis(SurrogateTuner):
    """The searches are bounded: with its defaults, NNI's took more than a minute for one suggestion."""

    Args = MetisArgs

    def kernel_arguments(self) -> tuple[float, float]:
        """As for others; but results that are free of noise lead to the optimum's last digits, if taken as they are."""
        assert isinstance(self.args, MetisArgs)
        smoothness, noise = super().kernel_arguments()
        return smoothness, _NO_NOISE if self.args.no_resampling else noise

    def accepts(self, history: History, suggestion: Suggestion) -> bool:
        assert isinstance(self.args, MetisArgs)
        if self.args.no_resampling:
            return super().accepts(history, suggestion)
        point = point_of(suggestion.parameters)
        return sum(point_of(trial.parameters) == point for trial in history.trials) < _MOST_RESULTS_PER_POINT

    def search(self, surrogate: Surrogate) -> Points:
        import numpy as np

        from trialflow.tuners.gaussian import search

        assert isinstance(self.args, MetisArgs)
        process = surrogate.process
        sizes = min(self.args.selection_num_starting_points, process.affordable, MOST_DRAWN), MOST_STARTS
        optima = search(lambda rows: -process.predict(rows)[0], surrogate.cube, sizes, surrogate.rng)
        if self.args.no_candidates or surrogate.rng.random() > self.args.exploration_probability:
            return optima
        promising = search(partial(_promise, process), surrogate.cube, sizes, surrogate.rng)[0]
        return np.vstack([self._rank(surrogate, promising, optima), optima])

    def _rank(self, surrogate: Surrogate, promising: NDArray[np.float64], pool: Points) -> Points:
        """The candidates, the one that promises the lowest optimum first."""
        import numpy as np

        assert isinstance(self.args, MetisArgs)
        process, results = surrogate.process, len(surrogate.losses)
        found = [promising]
        if results >= _LEAST_FOR_MIXTURES:
            found.append(_among_the_good(surrogate, pool))
        if not self.args.no_resampling and results >= _LEAST_FOR_RESAMPLING:
            found.append(_least_fitting(surrogate))
        return np.array(sorted(found, key=lambda point: _lowest_mean(process, point, pool)))


def _promise(process: Process, points: Points) -> NDArray[np.float64]:
    """How low the result at each row may well be; the more, the lower."""
    mean, deviation = process.predict(points)
    return _CONFIDENCE * deviation - mean


def _lowest_mean(process: Process, point: NDArray[np.float64], pool: Points) -> float:
    """How low the process would expect the optimum to be after a result at a point."""
    import numpy as np

    row = point.reshape(1, -1)
    mean, deviation = process.predict(row)
    ends = (mean - _CONFIDENCE * deviation, mean + _CONFIDENCE * deviation)
    return min(float(process.given(row, end).predict(np.vstack([pool, row]))[0].min()) for end in ends)


def _among_the_good(surrogate: Surrogate, pool: Points) -> NDArray[np.float64]:
    """The point that is likely among the good results and unlikely among the bad ones."""
    import numpy as np

    ranked = surrogate.points[np.argsort(surrogate.losses, kind="stable")]
    split = int(len(ranked) * _GOOD_SHARE)
    good, bad = _mixture(ranked[:split]), _mixture(ranked[split:])
    choices = np.vstack([surrogate.cube.snap(good.sample(len(pool))[0]), pool])
    best: NDArray[np.float64] = choices[np.argmax(good.score_samples(choices) - bad.score_samples(choices))]
    return best


def _mixture(points: Points) -> Any:
    from sklearn.mixture import BayesianGaussianMixture

    model = BayesianGaussianMixture(n_components=min(5, len(points)), reg_covar=1e-3, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of a fit that might go on.
        return model.fit(points)


def _least_fitting(surrogate: Surrogate) -> NDArray[np.float64]:
    """The point whose result is farthest from what is expected there, in standard deviations."""
    import numpy as np

    mean, deviation = surrogate.process.predict(surrogate.points)
    worst: NDArray[np.float64] = surrogate.points[np.argmax(np.abs(surrogate.losses - mean) / deviation)]
    return worst
