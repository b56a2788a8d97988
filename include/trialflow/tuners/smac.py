"""NNI's SMAC (Hutter et al., 2011): a random forest predicts the results; carried out by the package of that name."""

from __future__ import annotations

import tempfile
import warnings
from itertools import count
from typing import TYPE_CHECKING, Annotated, Any

from trialflow.algorithms import SeededClassArgs, WithDirection, WithoutEffect
from trialflow.tuners.drawing import DrawingTuner

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trialflow.search_space import Parameter
    from trialflow.tuners.history import History, Suggestion

_COLD_START_RESULTS = 10
# SMAC's own numbers: random points that are compared at each ask, and those from which it then searches.
_CHALLENGERS = 10_000
_LOCAL_SEARCHES = 10


class SMACArgs(WithDirection, SeededClassArgs):
    """Class arguments of SMAC.

    Attributes:
        config_dedup: Whether to suggest no point twice.
    """

    config_dedup: Annotated[bool, WithoutEffect("no point is suggested twice anyway")] = False


class SMAC(DrawingTuner):
    """An optimizer is made for each ask and told the history; the first ten points are drawn from the prior."""

    Args = SMACArgs
    types = ("choice", "randint", "uniform", "quniform", "loguniform")
    takes_nested = False
    requires = ("smac", "smac")

    def candidates(self, history: History) -> Iterator[Suggestion]:
        if len(history.results) < _COLD_START_RESULTS:
            return history.prior_candidates()
        return (history.suggestion(_ask(history, attempt)) for attempt in count())


def _ask(history: History, attempt: int) -> dict[str, Any]:
    """The latents that an optimizer suggests which knows the history."""
    from ConfigSpace import Configuration, ConfigurationSpace
    from smac import HyperparameterOptimizationFacade as Optimizer
    from smac import Scenario
    from smac.initial_design import DefaultInitialDesign
    from smac.main.exceptions import ConfigurationSpaceExhaustedException
    from smac.runhistory.dataclasses import TrialInfo, TrialValue

    axes = {parameter.label: _axis(parameter) for parameter in history.space.parameters if parameter.size > 1}
    space = ConfigurationSpace(space=list(axes.values()))

    def info(latents: dict[str, Any]) -> TrialInfo:
        values = {label: _value(history.space.by_label[label], latents[label]) for label in axes}
        return TrialInfo(Configuration(space, values=values), seed=0)

    with tempfile.TemporaryDirectory(prefix="trialflow-smac-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SMAC calls what ConfigSpace is going to do without.
        seed = int(history.generator(attempt).integers(2**31))
        scenario = Scenario(space, deterministic=True, n_trials=10**6, output_directory=folder, seed=seed)
        # A design that was tried already: SMAC goes on to its model.
        known = [info(history.results[0].latents).config]
        design = DefaultInitialDesign(scenario, n_configs=0, additional_configs=known)
        optimizer = Optimizer(
            scenario,
            _no_target,
            model=_forest(scenario, len(history.results)),
            acquisition_maximizer=_maximizer(scenario),
            initial_design=design,
            logging_level=False,
            overwrite=True,
        )
        for result, cost in zip(history.results, _costs(history), strict=True):
            optimizer.tell(info(result.latents), TrialValue(cost=cost), save=False)
        for latents in history.live:
            optimizer.runhistory.add_running_trial(info(latents))
        try:
            config = dict(optimizer.ask().config)
        except ConfigurationSpaceExhaustedException:
            return history.draw_prior(attempt)  # It has drawn known points only: few are left, or none.
    return {
        parameter.label: _latent(parameter, config[parameter.label]) if parameter.size > 1 else parameter.latent_at(0.5)
        for parameter in history.space.parameters
    }


def _costs(history: History) -> list[float]:
    """The losses from 0 to 1: SMAC takes logarithms of their distances, and loses the small ones beside the large."""
    halves = [result.loss / 2 for result in history.results]  # The distance of two floats may be none.
    low, width = min(halves), max(halves) - min(halves)
    return [(half - low) / width if width else 0.0 for half in halves]


def _forest(scenario: Any, results: int) -> Any:
    """The forest that SMAC would make by itself, except for what that costs.

    SMAC makes threads anew for each of hundreds of predictions, and room for a million leaves in every tree.
    """
    from smac.model.random_forest import RandomForest

    return RandomForest(
        scenario.configspace,
        log_y=True,
        n_trees=10,
        ratio_features=1.0,
        min_samples_split=2,
        min_samples_leaf=1,
        max_leaf_nodes=results + 1,
        n_jobs=1,
        seed=scenario.seed,
    )


def _maximizer(scenario: Any) -> Any:
    """SMAC's search among candidates, with the points from which it sets out in an order that is always the same.

    SMAC takes them out of a set, whose order depends on the process: Python hashes texts differently in each.
    """
    from smac import HyperparameterOptimizationFacade as Optimizer

    maximizer = Optimizer.get_acquisition_maximizer(
        scenario, challengers=_CHALLENGERS, local_search_iterations=_LOCAL_SEARCHES
    )
    search: Any = maximizer._local_search
    find_starts = search._get_init_points_from_previous_configs
    search._get_init_points_from_previous_configs = lambda *given: sorted(find_starts(*given), key=repr)
    return maximizer


def _no_target(config: Any, seed: int) -> float:
    raise NotImplementedError  # Trials run elsewhere; SMAC is asked and told.


def _axis(parameter: Parameter) -> Any:
    """A parameter in ConfigSpace's terms: an option is known by its index, a quantized number by its latent."""
    from ConfigSpace import Categorical, Float, Integer

    if parameter.options:
        return Categorical(parameter.label, [str(index) for index in range(len(parameter.options))])
    distribution: Any = parameter.distribution()
    bounds = (distribution.low, distribution.high)
    if parameter.type in ("randint", "quniform"):
        return Integer(parameter.label, bounds)
    return Float(parameter.label, bounds, log=distribution.log)


def _value(parameter: Parameter, latent: Any) -> Any:
    return str(int(parameter.share_of(latent) * len(parameter.options))) if parameter.options else latent


def _latent(parameter: Parameter, value: Any) -> Any:
    if parameter.options:
        return parameter.latent_at((int(value) + 0.5) / len(parameter.options))
    return int(value) if parameter.type in ("randint", "quniform") else float(value)
