"""NNI's BOHB (Falkner et al., 2018): Hyperband's brackets, their configurations from densities of good and bad ones."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from trialflow.algorithms import SeededClassArgs, WithDirection
from trialflow.tuners.brackets import BUDGET_KEY, BracketTuner, Halving, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from trialflow.tuners.densities import Densities
    from trialflow.tuners.history import History, Result, Suggestion


class BOHBArgs(WithDirection, SeededClassArgs):
    """Class arguments of BOHB.

    Attributes:
        min_budget: Budget of the first round of the longest bracket.
        max_budget: Budget of every last round.
        eta: One of so many configurations is promoted.
        min_points_in_model: Results with one budget that are waited for; at least one more than there are parameters,
            which is also the default.
        top_n_percent: The share of the results that are good ones.
        num_samples: Points that are drawn, of which the one that looks best is suggested.
        random_fraction: The share of configurations that are drawn from the prior all the same.
        bandwidth_factor: How much wider than the density of good points the draws are.
        min_bandwidth: Of each axis of the unit cube.
    """

    min_budget: int = Field(default=1, ge=1, le=9999)
    max_budget: int = Field(default=3, ge=1, le=9999)
    eta: int = Field(default=3, ge=2, le=9999)
    min_points_in_model: int | None = Field(default=None, ge=1, le=9999)
    top_n_percent: int = Field(default=15, ge=1, le=99)
    num_samples: int = Field(default=64, ge=1, le=9999)
    random_fraction: float = Field(default=1 / 3, ge=0, le=1)
    bandwidth_factor: float = Field(default=3.0, gt=0, le=9999)
    min_bandwidth: float = Field(default=1e-3, gt=0, le=1)

    @model_validator(mode="before")
    @classmethod
    def _has_no_space_of_its_own(cls, given: Any) -> Any:
        if isinstance(given, dict) and "config_space" in given:
            raise ValueError("config_space, a .pcs file, is not read; write its parameters into the search space")
        return given

    @model_validator(mode="after")
    def _budgets_ascend(self) -> BOHBArgs:
        if self.max_budget < self.min_budget:
            raise ValueError("max_budget must not be less than min_budget")
        return self


class BOHB(BracketTuner):
    """One bracket after the other; the densities are those of the largest budget with enough results."""

    Args = BOHBArgs

    def halving(self) -> Halving:
        assert isinstance(self.args, BOHBArgs)
        return Halving(self.args.max_budget / self.args.min_budget, self.args.max_budget, self.args.eta)

    def must_wait(self, newest: State) -> bool:
        return newest in (State.AWAITS_ROUND, State.AWAITS_END)

    def configurations(self, history: History) -> Iterable[Suggestion]:
        assert isinstance(self.args, BOHBArgs)
        densities = self._densities(history)
        if densities is None or history.generator().random() < self.args.random_fraction:
            return history.prior_candidates()
        return self._draw(history, densities)

    def _draw(self, history: History, densities: Densities) -> Iterator[Suggestion]:
        assert isinstance(self.args, BOHBArgs)
        rng = history.generator(1)
        while True:
            latents = densities.draw_best(self.args.num_samples, self.args.bandwidth_factor, rng)
            yield history.suggestion(latents)

    def _densities(self, history: History) -> Densities | None:
        """The model, unless no budget has enough results."""
        from trialflow.tuners.densities import Densities

        assert isinstance(self.args, BOHBArgs)
        dimensions = len(history.space.parameters)
        least = max(dimensions + 1, self.args.min_points_in_model or 0)
        by_budget: dict[Any, list[Result]] = defaultdict(list)
        for result in history.results:
            budget = result.trial.parameters.get(BUDGET_KEY)
            if isinstance(budget, int):  # A person may have given a result without.
                by_budget[budget].append(result)
        for budget in sorted(by_budget, reverse=True):
            ranked = [result.latents for result in sorted(by_budget[budget], key=lambda result: result.loss)]
            good = max(least, self.args.top_n_percent * len(ranked) // 100)
            bad = max(least, (100 - self.args.top_n_percent) * len(ranked) // 100)
            if len(ranked) - good > dimensions:
                split = ranked[:good], ranked[good : good + bad]
                return Densities(history.space, *split, self.args.min_bandwidth)
        return None
