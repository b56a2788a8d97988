"""What waits in the triggerer: all of it in one process and one loop, with one poller for all trials."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk.configuration import conf
from airflow.triggers.base import BaseTrigger, TaskSuccessEvent, TriggerEvent

from trialflow.experiment.running import ExperimentContext, TrialSteps, TrialWatch
from trialflow_airflow import cluster
from trialflow_airflow.waiting import Patience

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trialflow.records import Trial

    _End = tuple[asyncio.Future[Trial], Trial | Exception]

_POLL_SECONDS = 0.25
_LABEL_SECONDS = 60.0


def recovery_seconds() -> float:
    """How long a task that has paused should not be resumed.

    Airflow's supervisor may notice so late that the process of a task has ended. Its scheduler takes a task that runs
    again by then for one that has died.
    """
    return float(conf.getfloat("workers", "min_heartbeat_interval")) + 2.5


class TrialTrigger(BaseTrigger):
    """Follows a trial to its end, and ends the task from here: no worker is needed for that.

    A trial that waits for something is handed back once, for the task's label to say so.

    Args:
        experiment_id: The experiment.
        trial_id: The trial.
        reason: What the task's label says that the trial waits for.
    """

    def __init__(self, experiment_id: str, trial_id: str, reason: str = "") -> None:
        super().__init__()
        self.experiment_id = experiment_id
        self.trial_id = trial_id
        self.reason = reason

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return (
            "trialflow_airflow.triggers.TrialTrigger",
            {"experiment_id": self.experiment_id, "trial_id": self.trial_id, "reason": self.reason},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        resumable_at = time.monotonic() + recovery_seconds()
        poller = await _poller_of(self.experiment_id)
        trial = await poller.wait_for(self.experiment_id, self.trial_id, self.reason)
        self.log.info("Trial %s: %s %s", trial.label, trial.status, trial.reason)
        if trial.ended_at is None:
            await asyncio.sleep(resumable_at - time.monotonic())
        yield TriggerEvent({"reason": trial.reason}) if trial.ended_at is None else TaskSuccessEvent()


class ExperimentTrigger(BaseTrigger):
    """Waits until an experiment may have room and a suggestion for another trial, or has no live trial left.

    Args:
        experiment_id: The experiment.
        waits_for: Which of the two.
        after: See `TrialSteps.has_news`.
    """

    def __init__(self, experiment_id: str, waits_for: Literal["room", "idle"], after: int | None = None) -> None:
        super().__init__()
        self.experiment_id = experiment_id
        self.waits_for = waits_for
        self.after = after

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return (
            "trialflow_airflow.triggers.ExperimentTrigger",
            {"experiment_id": self.experiment_id, "waits_for": self.waits_for, "after": self.after},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        resumable_at = time.monotonic() + recovery_seconds()
        trials = TrialSteps(await _open_context(self.experiment_id))
        check = partial(trials.has_news, self.after) if self.waits_for == "room" else trials.is_idle
        patience = Patience()
        while not await asyncio.to_thread(check):
            await asyncio.sleep(patience.pause_seconds)
        await asyncio.sleep(resumable_at - time.monotonic())
        yield TriggerEvent({"waited_for": self.waits_for})


@dataclass
class _Waiter:
    """One trigger that waits for a trial, and in whose log stands what is found out about it.

    Attributes:
        watch: Of the trial.
        reason: What the task's label says that the trial waits for.
    """

    watch: TrialWatch
    reason: str
    _newest_reason: str = ""
    _changed_at: float = 0.0
    log_context: contextvars.Context = field(default_factory=contextvars.copy_context)

    def poll(self) -> Trial | None:
        """The trial, if it has ended or its label has to say something else; costs little while nothing is new."""
        ended = self.log_context.run(self.watch.poll) if self.watch.is_due() else None
        return ended or (self.watch.trial if self._needs_label() else None)

    def _needs_label(self) -> bool:
        """Whether the label is wrong; reasons that take turns are not followed one by one."""
        reason, now = self.watch.trial.reason, time.monotonic()
        if reason != self._newest_reason:
            self._newest_reason, self._changed_at = reason, now
        is_first_or_last = not reason or not self.reason
        return reason != self.reason and (is_first_or_last or now - self._changed_at > _LABEL_SECONDS)


@dataclass
class _Poller:
    """Follows every trial that is waited for, all of them in one thread; runs while there is one."""

    _waiting: dict[asyncio.Future[Trial], _Waiter] = field(default_factory=dict)
    _contexts: dict[str, ExperimentContext] = field(default_factory=dict)
    _task: asyncio.Task[None] | None = None

    async def wait_for(self, experiment_id: str, trial_id: str, reason: str) -> Trial:
        """The trial, once it has ended or waits for something else than ``reason``."""
        context = await _open_context(experiment_id, self._contexts)
        watch = await asyncio.to_thread(self._open, context, trial_id)
        future: asyncio.Future[Trial] = asyncio.get_running_loop().create_future()
        self._waiting[future] = _Waiter(watch, reason)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        try:
            return await future
        finally:
            self._waiting.pop(future, None)

    def _open(self, context: ExperimentContext, trial_id: str) -> TrialWatch:
        return TrialWatch(context, context.store.get_trial(context.id, trial_id))

    async def _run(self) -> None:
        while self._waiting:
            for future, end in await asyncio.to_thread(_look, list(self._waiting.items())):
                if future.done():
                    continue
                if isinstance(end, Exception):
                    future.set_exception(end)
                else:
                    future.set_result(end)
            await asyncio.sleep(_POLL_SECONDS)
        self._contexts.clear()


def _look(waiting: list[tuple[asyncio.Future[Trial], _Waiter]]) -> list[_End]:
    """Look at every trial; gives those whose trigger has something to say, or that cannot be followed."""
    ends: list[_End] = []
    for future, waiter in waiting:
        try:
            trial = waiter.poll()
        except Exception as error:  # noqa: BLE001  # handed to the one trigger that it concerns
            ends.append((future, error))
        else:
            if trial is not None:
                ends.append((future, trial))
    return ends


async def _open_context(
    experiment_id: str, known: dict[str, ExperimentContext] | None = None
) -> ExperimentContext:
    """The context of an experiment, with the way to its cluster open for the threads that will act."""
    known = {} if known is None else known
    if experiment_id not in known:
        known.setdefault(experiment_id, await asyncio.to_thread(ExperimentContext, experiment_id))
    context = known[experiment_id]
    experiment = await asyncio.to_thread(lambda: context.experiment)
    if experiment.spec.platform == "kubeflow":
        await cluster.aconnect(context.settings.kubernetes_connection)
    return context


# One for all experiments, under "", and one for each whose own classes judge its trials, which may take their time.
_pollers: defaultdict[str, _Poller] = defaultdict(_Poller)


async def _poller_of(experiment_id: str) -> _Poller:
    context = await _open_context(experiment_id)
    return _pollers[experiment_id if context.user_classes else ""]
