"""What a person does to an experiment from outside: change, stop, add, resume; everything is noted under their name.

Nothing here touches a job. What is written into the ledger is carried out by the tasks that follow the trials, where
the cluster and the storage are at hand; so all of this may run anywhere, in an API server too.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from trialflow.config.fields import MOST_TRIALS
from trialflow.errors import ConfigError, ConflictError
from trialflow.experiment.operating.folders import remove_folder
from trialflow.experiment.operating.user_points import check_parameters, count_fitting, read_known_points
from trialflow.experiment.running import ExperimentContext, ExperimentSteps
from trialflow.experiment.showing.study import delete_study
from trialflow.messages import Problem
from trialflow.records import Experiment, ExperimentStatus, JsonObject, Trial
from trialflow.search_space import parse_search_space
from trialflow.store import Adjustable
from trialflow.tuners import check_space

if TYPE_CHECKING:
    from collections.abc import Callable

    from trialflow.settings import Settings

_MOST = {
    Adjustable.CONCURRENCY: MOST_TRIALS,
    Adjustable.TRIAL_NUMBER: MOST_TRIALS,
    Adjustable.DURATION: 10 * 365 * 86400,
}


class Actions:
    """A person at the controls of one experiment.

    Args:
        experiment_id: The experiment.
        who: The person's name.
        settings: Of this installation.

    Raises:
        NotFoundError: There is no such experiment.
    """

    def __init__(self, experiment_id: str, who: str, settings: Settings | None = None) -> None:
        self.context = ExperimentContext(experiment_id, settings)
        self.store = self.context.store
        self.who = who
        self.experiment = self.store.get_experiment(experiment_id)

    def change(self, limit: Adjustable, value: Any) -> Experiment:
        """Change a limit or the search space, from the next claim on; no trial that lives is touched.

        Args:
            limit: What to change.
            value: A number; the duration in seconds; the search space as an object.

        Raises:
            ConfigError: The value is none that the experiment can have.
            ConflictError: The experiment has ended, and more trials alone would not start it.
        """
        _check(self.experiment, limit, value)
        if self.experiment.status.is_final and limit is Adjustable.SEARCH_SPACE:
            raise ConflictError(
                f"experiment {self.experiment.id} is {self.experiment.status}; resume it, then change the search space"
            )
        with self.store.open_change(self.experiment.id, self.who) as change:
            change.change(limit, value)
        return self._look()

    def stop(self) -> Experiment:
        """End the experiment and its live trials; one that has ended stays as it is."""
        with self.store.open_change(self.experiment.id, self.who) as change:
            change.stop()
        return self._look()

    def end_run(self, run_id: str) -> None:
        """End what a run carried that somebody has deleted."""
        with self.store.open_change(self.experiment.id, self.who) as change:
            change.end_run(run_id)

    def plan_clearing(self, run_id_of: Callable[[int], str], is_alive: Callable[[str], bool]) -> int | None:
        """Plan a batch for an ended experiment of which something is left that no run is going to clear away.

        Returns:
            The batch for which a run is needed now, or ``None``.
        """
        newest = self.store.newest_batch(self.experiment.id)
        experiment = self._look()
        left = self.store.list_unreported(experiment.id)
        runs = self.store.list_runs(experiment.id, only_open=True)
        if not experiment.status.is_final or not left or any(map(is_alive, runs)):
            return None
        with self.store.open_change(experiment.id, self.who) as change:
            return change.open_clearing(run_id_of, newest)

    def kill(self, trial_id: str) -> Trial:
        """End one trial.

        Raises:
            ConflictError: It has ended already.
        """
        trial = self.store.get_trial(self.experiment.id, trial_id)
        with self.store.open_change(self.experiment.id, self.who) as change:
            killed = change.kill(trial)
        trial = self.store.get_trial(self.experiment.id, trial_id)
        if not killed:
            raise ConflictError(f"trial {trial.label} has ended already: {trial.status}")
        return trial

    def add(self, parameters: Any) -> int:
        """Let a trial with these parameters have the next free place; gives the number that it will have.

        In an experiment that does not run, it waits until that is resumed.

        Raises:
            ConfigError: The parameters are none that a trial of the experiment can have.
            ConflictError: The experiment has no trials left.
        """
        checked = check_parameters(self.experiment, parameters)
        with self.store.open_change(self.experiment.id, self.who) as change:
            return change.add(checked)

    def import_data(self, raw: Any) -> JsonObject:
        """Let the tuner know results from elsewhere; what was imported before is passed over.

        Returns:
            How many were ``imported``, how many were ``known`` before, and how many of all ``fit`` the search space:
            the others mean nothing to the tuner.

        Raises:
            ConfigError: They are not in the form in which they are exported.
        """
        points = read_known_points(raw)
        with self.store.open_change(self.experiment.id, self.who) as change:
            new = change.import_points(points)
        return {"imported": new, "known": len(points) - new, "fit": count_fitting(self.experiment, points)}

    def delete(self, is_alive: Callable[[str], bool]) -> bool:
        """Delete an experiment that has ended: its folder, its study and its rows, in this order.

        Whoever dies in here leaves an experiment that can only be deleted again.

        Args:
            is_alive: Tells whether a run still goes on.

        Returns:
            Whether its folder was there to be deleted; the storage may not be mounted here.

        Raises:
            ConflictError: It has not come to its end.
            StoreError: Its folder cannot be deleted from here.
        """
        experiment = self._look()
        self._require_no_run(is_alive)
        with self.store.open_change(experiment.id, self.who) as change:
            change.close()
        removed = remove_folder(experiment)
        # Whoever writes a study finds the experiment before this, or none after it.
        with self.store.projection_lock():
            delete_study(experiment.id, self.store.url)
            with self.store.open_change(experiment.id, self.who) as change:
                change.delete()
        return removed

    def plan_on(self, run_id_of: Callable[[int], str]) -> int | None:
        """Plan a batch for trials that no batch has a slot for, when nobody else is going to.

        That is when a limit was raised after the newest batch had found that it allows no more trials.

        Returns:
            The batch for which a run is needed now, or ``None``.
        """
        experiment = self._look()
        newest = self.store.newest_batch(experiment.id)
        if experiment.status is not ExperimentStatus.RUNNING or not newest:
            return None
        if not self.store.is_passed(experiment.id, newest):
            return None
        return ExperimentSteps(self.context).plan_next_batch(newest, run_id_of(newest + 1))

    def resume(self, run_id_of: Callable[[int], str], is_alive: Callable[[str], bool]) -> int:
        """Let the experiment go on in a new batch; trials that were left behind are taken up by it.

        Args:
            run_id_of: Gives the id of the run that will carry a batch.
            is_alive: Tells whether a run still goes on.

        Returns:
            The new batch, for which a run is needed now.

        Raises:
            ConflictError: It goes on by itself, or was resumed a moment ago, or would end again at once.
        """
        newest = self.store.newest_batch(self.experiment.id)
        experiment = self._look()
        self._require_no_run(is_alive)
        limit = self.store.find_limit(experiment.id, experiment.spec)
        if limit is not None:
            raise ConflictError(f"experiment {experiment.id} would end again at once: {limit.reason}")
        if experiment.is_overdue(time.time()):
            raise ConflictError(
                f"experiment {experiment.id} has used up its duration; raise it first: "
                f"nnictl update duration {experiment.id} --value {2 * experiment.max_duration_seconds:.0f}s"
            )
        with self.store.open_change(experiment.id, self.who) as change:
            return change.resume(run_id_of, self.context.settings.batch_size, newest)

    def _require_no_run(self, is_alive: Callable[[str], bool]) -> None:
        runs = self.store.list_runs(self.experiment.id, only_open=True)
        alive = next((run_id for run_id in runs if is_alive(run_id)), None)
        if alive is not None:
            name, status = self.experiment.id, self.experiment.status
            goes_on = "still clears up after it; try again in a moment" if status.is_final else "goes on"
            raise ConflictError(f"experiment {name} is {status}, its run {alive} {goes_on}")

    def _look(self) -> Experiment:
        self.experiment = self.context.refresh()
        return self.experiment


def _check(experiment: Experiment, limit: Adjustable, value: Any) -> None:
    if limit is Adjustable.SEARCH_SPACE:
        _check_search_space(experiment, value)
        return
    most = _MOST[limit]
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    whole = isinstance(value, int) or limit is Adjustable.DURATION
    if not number or not whole or not 1 <= value <= most:
        kind, remedy = "a whole number", ""
        if limit is Adjustable.DURATION:
            kind, remedy = "a number of seconds", "Write seconds, or a number with a unit: 90s, 30m, 2h, 1d"
        raise ConfigError([Problem(limit.value, f"must be {kind} from 1 to {most}", repr(value), remedy)])


def _check_search_space(experiment: Experiment, raw: JsonObject) -> None:
    """A search space must be right by itself, and one that the tuner takes; of the history, what fits it is used."""
    if experiment.spec.use_annotation:
        rule = "stands in the annotations of the code, and cannot be changed while it runs"
        raise ConfigError([Problem("searchSpace", rule, None, "Start another experiment")])
    space, problems = parse_search_space(raw, user_class=experiment.spec.suggests_itself)
    problems = problems or check_space(experiment.spec.tuner, space)
    if problems:
        raise ConfigError(problems)
