"""The Optuna study of an experiment in a test, brought up to date with the ledger first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialflow.experiment.showing.study import StudySource, write_study

if TYPE_CHECKING:
    import optuna

    from trialflow.experiment.running import ExperimentManager


def study_of(manager: ExperimentManager, *, with_steps: bool = False) -> optuna.Study:
    """The study as the ledger says it is."""
    import optuna

    write_study(StudySource.read(manager.store, manager.id, with_steps=with_steps), manager.store.url)
    return optuna.load_study(study_name=manager.id, storage=manager.store.url)


def states_of(manager: ExperimentManager) -> list[str]:
    """The state of every trial in the study, in order."""
    return [trial.state.name for trial in study_of(manager).get_trials(deepcopy=False)]
