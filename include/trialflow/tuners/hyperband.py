"""NNI's Hyperband (Li et al., 2017): brackets of configurations from NNI's priors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from trialflow.algorithms import SeededClassArgs, WithDirection
from trialflow.tuners.brackets import BracketTuner, Halving, State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trialflow.tuners.history import History, Suggestion


class HyperbandArgs(WithDirection, SeededClassArgs):
    """Class arguments of Hyperband.

    Attributes:
        R: The largest budget of a trial.
        eta: One of so many configurations is promoted.
        exec_mode: Whether the next bracket waits until the present one has asked for all of its trials.
    """

    R: int = Field(default=60, ge=1)
    eta: int = Field(default=3, ge=2)
    exec_mode: Literal["serial", "parallelism"] = "parallelism"


class Hyperband(BracketTuner):
    """A trial reads ``TRIAL_BUDGET`` from its parameters: how long to train, in units of its own."""

    Args = HyperbandArgs

    def halving(self) -> Halving:
        assert isinstance(self.args, HyperbandArgs)
        return Halving(self.args.R, self.args.R, self.args.eta)

    def must_wait(self, newest: State) -> bool:
        assert isinstance(self.args, HyperbandArgs)
        return self.args.exec_mode == "serial" and newest is State.AWAITS_ROUND

    def configurations(self, history: History) -> Iterable[Suggestion]:
        return history.prior_candidates()
