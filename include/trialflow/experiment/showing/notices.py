"""What people are told of an experiment: that it is done, has failed, stands still, or has found something better.

All of it is read off the ledger, where it stays true; whoever looks next finds what the one before him has not told.
A notice counts as told when its notifier has come back: one that is killed while it sends sends again. Twice is better
than never, for what is told here, a failure at night for example, nobody looks for.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trialflow.experiment.showing.results import find_best, summarize
from trialflow.records import Experiment, ExperimentStatus, JsonObject, NoticeEvent, Trial

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from trialflow.settings import NotifierSettings, Settings
    from trialflow.store import Store

logger = logging.getLogger(__name__)

# What is older is no news: after an outage, or where notifiers are configured for the first time.
_NEWS_SECONDS = 86_400.0
_ENDS = {ExperimentStatus.DONE: NoticeEvent.DONE, ExperimentStatus.ERROR: NoticeEvent.FAILED}
_AUTHOR, _NOTED_AS = "trialflow", "notice"


@dataclass(frozen=True)
class Notice:
    """Something to be told once.

    Attributes:
        key: Tells it from every other notice of the experiment.
        text: One sentence for people.
        experiment: The experiment as it stands now, as in its ``result.json``.
    """

    event: NoticeEvent
    key: str
    text: str
    experiment: JsonObject

    def to_json(self) -> JsonObject:
        """What a notifier's templates find under ``notice``."""
        return {"event": self.event.value, "text": self.text, **self.experiment}


def send_notices(store: Store, settings: Settings, send: Callable[[NotifierSettings, Notice], None]) -> list[str]:
    """Send what is to be told and was not; what could not be sent is tried again by the next call.

    Args:
        store: With the experiments.
        settings: With the notifiers.
        send: Hands a notice to a notifier; may raise anything.

    Returns:
        What went wrong, one sentence each.
    """
    problems = []
    with store.notices_lock():
        for experiment in filter(_is_news, store.list_experiments()):
            for notifier, notice, name in _find_untold(store, experiment, settings):
                try:
                    send(notifier, notice)
                except Exception as error:
                    logger.exception("%s: not told: %s", experiment.id, name)
                    problems.append(f"experiment {experiment.id}: {notifier.path} did not tell {notice.key!r}: {error}")
                else:
                    with store.open_change(experiment.id, _AUTHOR) as change:
                        change.note(_NOTED_AS, name)
    return problems


def _is_news(experiment: Experiment) -> bool:
    return experiment.ended_at is None or time.time() - experiment.ended_at <= _NEWS_SECONDS


def _find_untold(
    store: Store, experiment: Experiment, settings: Settings
) -> Iterator[tuple[NotifierSettings, Notice, str]]:
    """What each notifier has not told yet, with the name by which that is noted."""
    told = {change.value for change in store.list_changes(experiment.id) if change.what == _NOTED_AS}
    for notice in find_notices(store, experiment, settings):
        for notifier in settings.notifiers:
            name = f"{notice.key} by {_name(notifier)}"
            if notice.event in notifier.on and name not in told:
                yield notifier, notice, name


def _name(notifier: NotifierSettings) -> str:
    """Tells two notifiers of one class apart, without their arguments, which may hold a secret."""
    arguments = json.dumps(notifier.kwargs, sort_keys=True, default=str)
    return f"{notifier.path}#{hashlib.blake2b(arguments.encode(), digest_size=4).hexdigest()}"


def find_notices(store: Store, experiment: Experiment, settings: Settings) -> list[Notice]:
    """What is to be told of an experiment now, told before or not."""
    now = time.time()
    trials = store.list_trials(experiment.id)
    found = list(_improvements(experiment, trials, settings.improved_after_trials, now))
    if experiment.status in _ENDS:
        found.append(_end(experiment, trials))
    elif not experiment.status.is_final:
        resumed = [change.at for change in store.list_changes(experiment.id) if change.what == "resume"]
        found += _standstill(experiment, trials, max(resumed, default=0.0), settings.stalled_after_seconds, now)
    result = summarize(experiment, trials).to_json()
    return [Notice(event, key, text, result) for event, key, text in found]


_Finding = tuple[NoticeEvent, str, str]


def _end(experiment: Experiment, trials: Sequence[Trial]) -> _Finding:
    event = _ENDS[experiment.status]
    # An experiment that was resumed ends again.
    key = f"{event} at {experiment.ended_at:.0f}"
    verb = "is done" if event is NoticeEvent.DONE else "has failed"
    best = find_best(trials, experiment.spec.optimize_mode)
    why = [experiment.status_reason, f"best {best.value:.6g} by trial {best.label}" if best else ""]
    return event, key, ": ".join(filter(None, [f"{_title(experiment)} {verb}", *why]))


def _standstill(
    experiment: Experiment, trials: Sequence[Trial], resumed_at: float, limit_seconds: float, now: float
) -> Iterator[_Finding]:
    """That no trial has ended for too long; the next result ends the standstill, and another one is told again."""
    since = max([experiment.created_at, resumed_at, *(trial.ended_at for trial in trials if trial.ended_at)])
    if now - since < limit_seconds:
        return
    live = [trial for trial in trials if trial.ended_at is None]
    oldest = f"; the oldest is {live[0].label}, {live[0].status} {live[0].reason}".rstrip() if live else ""
    text = f"{_title(experiment)} has had no new result for {_hours(now - since)}, with {len(live)} live trials{oldest}"
    yield NoticeEvent.STALLED, f"{NoticeEvent.STALLED} since {since:.0f}", text


def _improvements(
    experiment: Experiment, trials: Sequence[Trial], patience: int, now: float
) -> Iterator[_Finding]:
    """Each trial that was better than all before it, after ``patience`` or more that were not."""
    mode, in_vain = experiment.spec.optimize_mode, 0
    best: float | None = None
    ended = [(trial.ended_at, trial.number, trial) for trial in trials if trial.ended_at is not None]
    for ended_at, _, trial in sorted(ended, key=lambda item: item[:2]):
        if trial.value is None or not mode.is_better(trial.value, best):
            in_vain += 1
            continue
        if best is not None and in_vain >= patience and now - ended_at <= _NEWS_SECONDS:
            text = f"trial {trial.label} has found {trial.value:.6g} after {in_vain} trials no better than {best:.6g}"
            yield NoticeEvent.IMPROVED, f"{NoticeEvent.IMPROVED} by {trial.id}", f"{_title(experiment)}: {text}"
        best, in_vain = trial.value, 0


def _title(experiment: Experiment) -> str:
    return f"Experiment {experiment.spec.name} ({experiment.id})"


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"
