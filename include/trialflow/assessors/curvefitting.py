"""NNI's Curvefitting: stop a trial whose learning curve is not going to come near the best one.

The curve is extrapolated as in Domhan et al. (2015): families of curves are fitted by least squares, and combined with
weights that are sampled by MCMC, in proportion to how likely they make the metrics so far. As in NNI, only the
weights are sampled; the curves stay as they were fitted.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from pydantic import Field

from trialflow.algorithms import DirectedClassArgs
from trialflow.assessors.base import Assessor
from trialflow.records import OptimizeMode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

_LEAST_CURVES = 4
_MOST_EVALUATIONS = 400
_STEPS = 400
_BURN_IN = 100
_STEP_SIZE = 0.05
# The standard deviation of the metrics around their curve is taken to be at least this share of their range.
_LEAST_NOISE = 0.01


class CurvefittingArgs(DirectedClassArgs):
    """Class arguments of Curvefitting.

    Attributes:
        epoch_num: The step at which trials end.
        start_step: Trials with fewer metrics than this are not judged.
        threshold: A trial must be expected to reach this share of the best one's last metric.
        gap: Steps from one judgement to the next.
    """

    epoch_num: int = Field(ge=1, le=9999)
    start_step: int = Field(default=6, ge=0, le=9999)
    threshold: float = Field(default=0.95, ge=0, le=9999)
    gap: int = Field(default=1, ge=1, le=9999)


class Curvefitting(Assessor):
    """For metrics that are not negative; of the completed trials, the best last metric counts."""

    Args = CurvefittingArgs

    def is_good(self, history: Sequence[float], others: Sequence[Sequence[float]]) -> bool:
        assert isinstance(self.args, CurvefittingArgs)
        step, last = len(history), [metrics[-1] for metrics in others if metrics]
        if not last or step < self.args.start_step or (step - self.args.start_step) % self.args.gap:
            return True
        expected = extrapolate(history, self.args.epoch_num)
        if expected is None:
            return True
        if self.args.optimize_mode is OptimizeMode.MAXIMIZE:
            return expected > self.args.threshold * max(last)
        return self.args.threshold * expected < min(last)


def extrapolate(history: Sequence[float], at: int) -> float | None:
    """The metric that is expected at a step; ``None`` while too few families of curves fit.

    Args:
        history: The metrics of the steps from 1 on; whether they rise or fall.
        at: The step; that of the last metric when it is past.
    """
    import numpy as np

    low, high = min(history), max(history)
    if low == high:
        return high if len(history) > 1 else None
    falls = history[-1] < history[0]
    heights = (np.array(history) - low) / (high - low)
    heights = 1 - heights if falls else heights
    steps = np.arange(1.0, len(history) + 1)
    curves = _fit_all(steps, heights, float(max(at, len(history))))
    if len(curves) < _LEAST_CURVES:
        return None
    fits, ends = np.array([fit for fit, _ in curves]), np.array([end for _, end in curves])
    height = float(_sample_weights(fits, heights) @ ends)
    return low + (high - low) * (1 - height if falls else height)


def _fit_all(steps: Numbers, heights: Numbers, at: float) -> list[tuple[Numbers, float]]:
    """Of each family that fits: its heights at the steps, and at the step that is asked for."""
    import numpy as np
    from scipy.optimize import curve_fit

    curves = []
    for curve, start in _families():
        if len(start) > len(steps):
            continue  # Any of its curves that goes through so few metrics would do.
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # Of numbers that overflow on the way to a fit.
            try:
                found = curve_fit(curve, steps, heights, p0=start, maxfev=_MOST_EVALUATIONS)[0]
            except RuntimeError:
                continue  # It does not fit.
            fit, end = curve(steps, *found), float(curve(np.array([at]), *found)[0])
        # A curve that leaves the range of the metrics by more than its width knows nothing.
        if np.isfinite(fit).all() and -1 <= end <= 2:
            curves.append((fit, end))
    return curves


def _sample_weights(fits: Numbers, heights: Numbers) -> Numbers:
    """The mean of weights that were sampled in proportion to the likelihood of their combination, by Metropolis."""
    import numpy as np

    rng = np.random.default_rng(len(heights))
    noise = max(float(np.sqrt(((fits - heights) ** 2).mean(axis=1)).min()), _LEAST_NOISE)

    def log_likelihood(weights: Numbers) -> float:
        return -float((((weights @ fits - heights) / noise) ** 2).sum()) / 2

    weights = np.full(len(fits), 1 / len(fits))
    present, total = log_likelihood(weights), np.zeros(len(fits))
    for step in range(_STEPS):
        moved = np.abs(weights + _STEP_SIZE * rng.standard_normal(len(fits)))
        proposed = moved / moved.sum()
        likelihood = log_likelihood(proposed)
        if np.log(rng.random()) < likelihood - present:
            weights, present = proposed, likelihood
        if step >= _BURN_IN:
            total += weights
    return total / (_STEPS - _BURN_IN)


def _families() -> list[tuple[Callable[..., Numbers], tuple[float, ...]]]:
    """The families of curves of Domhan et al., with values from which a fit to heights from 0 to 1 sets out."""
    from numpy import exp, log

    return [
        # vapour pressure
        (lambda x, a, b, c: exp(a + b / x + c * log(x)), (-0.5, -0.5, 0.05)),
        # power laws of three and four parameters
        (lambda x, c, a, alpha: c - a * x**-alpha, (1.0, 1.0, 0.5)),
        (lambda x, c, a, b, alpha: c - (a * x + b) ** -alpha, (1.0, 1.0, 1.0, 0.5)),
        # logarithms: of a line of the logarithm, of a power, inverse
        (lambda x, a, b: log(a * log(x) + b), (1.0, 1.0)),
        (lambda x, a, b, c: a / (1 + (x / exp(b)) ** c), (1.0, 1.0, -1.0)),
        (lambda x, c, a: c - a / log(x + 1), (1.0, 0.5)),
        # Hill
        (lambda x, top, eta, kappa: top * x**eta / (kappa**eta + x**eta), (1.0, 1.0, 2.0)),
        # Morgan, Mercer and Flodin
        (lambda x, top, low, kappa, delta: top - (top - low) / (1 + (kappa * x) ** delta), (1.0, 0.0, 0.2, 1.0)),
        # exponentials: of four parameters, Janoschek's, Weibull's
        (lambda x, c, a, b, alpha: c - exp(-a * x**alpha + b), (1.0, 0.5, 0.0, 0.5)),
        (lambda x, top, low, kappa, delta: top - (top - low) * exp(-kappa * x**delta), (1.0, 0.0, 0.3, 1.0)),
        (lambda x, top, low, kappa, delta: top - (top - low) * exp(-((kappa * x) ** delta)), (1.0, 0.0, 0.2, 1.0)),
    ]
