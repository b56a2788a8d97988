"""QMC: a low-discrepancy sequence, which fills the space more evenly than random points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from trialflow.algorithms import SeededClassArgs
from trialflow.tuners.drawing import DrawingTuner

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trialflow.tuners.history import History, Suggestion


class QMCArgs(SeededClassArgs):
    """Class arguments of QMC.

    Attributes:
        qmc_type: The sequence.
        scramble: Whether the seed shifts it; without, every experiment begins with the same points.
    """

    qmc_type: Literal["sobol", "halton"] = "sobol"
    scramble: bool = True


class QMC(DrawingTuner):
    """A trial's index in the sequence is its own number, so that parallel asks need not know of each other."""

    Args = QMCArgs

    def candidates(self, history: History) -> Iterator[Suggestion]:
        import numpy as np
        from scipy.stats import qmc

        assert isinstance(self.args, QMCArgs)
        parameters = list(history.space.walk())
        make = qmc.Sobol if self.args.qmc_type == "sobol" else qmc.Halton
        sequence = make(len(parameters), scramble=self.args.scramble, rng=np.random.default_rng(history.seed))
        # The first point of an unscrambled sequence is a corner.
        index = len(history.asked) + (not self.args.scramble)
        if index:
            sequence.fast_forward(index)
        while True:
            (shares,) = sequence.random(1)
            pairs = zip(parameters, shares, strict=True)
            yield history.suggestion({parameter.label: parameter.latent_at(float(at)) for parameter, at in pairs})
