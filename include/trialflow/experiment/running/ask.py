"""Asking the tuner: the ledger is all that it knows, so that whoever asks gets the same answer.

Callers hold the study's lock.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from trialflow.metrics import read_number, read_objectives
from trialflow.records import CUSTOMIZED, DEFAULT, Experiment, TrialStatus
from trialflow.search_space import parse_search_space
from trialflow.tuners import History, NoSuggestion, PastTrial, Suggestion, get_tuner

if TYPE_CHECKING:
    from trialflow.store import Store


def ask(experiment: Experiment, store: Store) -> Suggestion | NoSuggestion:
    """What the experiment's tuner suggests now."""
    return get_tuner(experiment.spec.tuner).suggest(read_history(experiment, store))


def read_history(experiment: Experiment, store: Store) -> History:
    """The experiment as its tuner sees it now."""
    space, _ = parse_search_space(experiment.spec.search_space)
    return History(space, experiment.spec.optimize_mode, read_past(experiment, store), _seed(experiment))


def read_past(experiment: Experiment, store: Store) -> tuple[PastTrial, ...]:
    """Every trial; a result counts from when the trial was reported. Results from elsewhere come first."""
    stopped = _last_metrics_of_stopped(experiment, store)
    others = _other_objectives(experiment, store)
    known = store.list_known_points(experiment.id)
    imported = (
        PastTrial(number, point.parameters, live=False, value=point.value, given=True)
        for number, point in enumerate(known, start=-len(known))
    )
    asked = (
        PastTrial(
            number=trial.number,
            parameters=trial.parameters,
            live=trial.reported_at is None,
            value=None if trial.reported_at is None else stopped.get(trial.id, trial.value),
            note=trial.note or {},
            given=trial.note == CUSTOMIZED,
            others=others.get(trial.id, {}),
        )
        for trial in store.list_asked(experiment.id)
    )
    return (*imported, *asked)


def _last_metrics_of_stopped(experiment: Experiment, store: Store) -> dict[str, float]:
    """What counts as the results of early-stopped trials, by trial id: nothing unless the experiment says so."""
    if not experiment.spec.tuner.include_intermediate_results:
        return {}
    last = store.list_last_metrics(experiment.id, TrialStatus.EARLY_STOPPED)
    numbers = {trial_id: read_number(metric.value)[0] for trial_id, metric in last.items()}
    return {trial_id: number for trial_id, number in numbers.items() if number is not None}


def _other_objectives(experiment: Experiment, store: Store) -> dict[str, dict[str, float]]:
    """The objectives beside the default one, by trial id."""
    keys = experiment.spec.objectives.keys() - {DEFAULT}
    finals = store.list_finals(experiment.id) if keys else {}
    return {trial_id: read_objectives(metric.value, keys) for trial_id, metric in finals.items()}


def _seed(experiment: Experiment) -> int:
    """The experiment's seed, the same in every process that asks."""
    given = experiment.spec.tuner.class_args.get("seed")
    key = str(experiment.id if given is None else given).encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=4).digest(), "big")
