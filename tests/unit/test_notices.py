"""What people are told of an experiment, and that they are told once."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from trialflow.experiment.operating.actions import Actions
from trialflow.experiment.showing.notices import Notice, send_notices
from trialflow.records import ExperimentStatus, NoticeEvent, Outcome, Slot, Trial, TrialStatus
from trialflow.settings import NotifierSettings, Settings
from trialflow.store import Store
from trialflow.testing import make_spec

ID, DAY = "expaaaaa", 86_400.0
SLACK, MAIL = NotifierSettings(path="some.Slack"), NotifierSettings(path="some.Mail", on=("done", "failed"))


@dataclass
class Lab:
    """An experiment in a store, and what was told of it."""

    store: Store
    settings: Settings
    told: list[tuple[str, Notice]] = field(default_factory=list)

    def tell(self) -> list[str]:
        """Send what is due; gives the events that were told by it, in order."""
        before = len(self.told)
        assert send_notices(self.store, self.settings, self._take) == []
        return [f"{path} {notice.event}" for path, notice in self.told[before:]]

    def _take(self, notifier: NotifierSettings, notice: Notice) -> None:
        self.told.append((notifier.path.removeprefix("some."), notice))

    def end(self, *values: float | None, seconds_ago: float = 0.0) -> Trial:
        """Let trials end with these values, one after the other; those without one have failed."""
        for value in values:
            number = len(self.store.list_trials(ID))
            trial = self.store.claim(ID, Slot(1, number), "run")
            assert isinstance(trial, Trial)
            status = TrialStatus.FAILED if value is None else TrialStatus.SUCCEEDED
            self.store.set_ended(trial, Outcome(status, ended_at=time.time() - seconds_ago), value)
            self.store.set_reported(trial)
        return trial

    def finish(self, status: ExperimentStatus, reason: str = "") -> None:
        assert self.store.change_status(ID, status, from_=[ExperimentStatus.RUNNING], reason=reason)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return make_lab(tmp_path)


def make_lab(tmp_path: Path, **settings: Any) -> Lab:
    values = {"notifiers": (SLACK,), "improved_after_trials": 3, **settings}
    store = Store(f"sqlite:///{tmp_path / 'trialflow.db'}")
    store.create_experiment(ID, make_spec(trial_concurrency=9, max_trial_number=90), str(tmp_path))
    store.set_code_folder(ID, str(tmp_path))
    store.change_status(ID, ExperimentStatus.RUNNING, from_=[ExperimentStatus.INITIALIZED])
    return Lab(store, Settings(home=tmp_path, **values))


@pytest.mark.parametrize(
    ("status", "event"), [(ExperimentStatus.DONE, "done"), (ExperimentStatus.ERROR, "failed")]
)
def test_an_end_is_told_once_with_the_reason_and_the_best_trial(
    lab: Lab, status: ExperimentStatus, event: str
) -> None:
    best = lab.end(0.5)
    assert lab.tell() == []
    lab.finish(status, "enough")
    assert lab.tell() == [f"Slack {event}"]
    assert lab.tell() == []
    notice = lab.told[0][1]
    assert "enough" in notice.text
    assert f"best 0.5 by trial {best.label}" in notice.text
    assert notice.to_json()["event"] == event
    assert notice.to_json()["best"]["id"] == best.id


def test_an_experiment_that_a_person_stopped_is_no_news(lab: Lab) -> None:
    Actions(ID, "ann", lab.settings).stop()
    assert lab.tell() == []


def test_an_experiment_that_was_resumed_ends_again(lab: Lab) -> None:
    lab.end(0.5)
    lab.finish(ExperimentStatus.DONE)
    assert lab.tell() == ["Slack done"]
    time.sleep(1.1)  # Two ends in one second are one.
    with lab.store.open_change(ID, "ann") as change:
        change.resume(lambda batch: f"run-{batch}", 10, 0)
    assert lab.tell() == []
    lab.finish(ExperimentStatus.DONE)
    assert lab.tell() == ["Slack done"]


def test_what_is_a_day_old_is_no_news(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.end(9.0, 1.0, 1.0, 1.0, 10.0)
    lab.finish(ExperimentStatus.DONE)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + DAY + 1)
    assert lab.tell() == []


def test_each_standstill_is_told_once(tmp_path: Path) -> None:
    lab = make_lab(tmp_path, stalled_after_seconds=3600)
    first = lab.end(0.5, seconds_ago=7300)
    assert lab.tell() == []
    with lab.store._engine.begin() as connection:
        connection.exec_driver_sql("UPDATE trialflow_experiments SET created_at = created_at - 9000")
    waiting = lab.store.claim(ID, Slot(2, 0), "run")
    assert isinstance(waiting, Trial)
    lab.store.set_reason(waiting, "Unschedulable: no GPU")
    assert (lab.tell(), lab.tell()) == (["Slack stalled"], [])
    text = lab.told[0][1].text
    assert "no new result for 2.0 h, with 1 live trials" in text
    assert f"#1 {waiting.id}, WAITING Unschedulable: no GPU" in text
    lab.store.set_ended(waiting, Outcome(TrialStatus.FAILED, ended_at=time.time() - 3700), None)
    assert (lab.tell(), lab.tell()) == (["Slack stalled"], [])
    lab.end(0.6)
    assert lab.tell() == []
    assert first.number == 0


def test_the_first_improvement_after_some_trials_without_one_is_told_once(lab: Lab) -> None:
    lab.end(0.5, 0.6, 0.1, None)
    lab.end(0.7)
    assert lab.tell() == [], "two trials in vain are not three"
    better = lab.end(0.1, None, 0.7, 0.8)
    assert (lab.tell(), lab.tell()) == (["Slack improved"], [])
    text = lab.told[0][1].text
    assert f"trial {better.label} has found 0.8 after 3 trials no better than 0.7" in text
    lab.end(0.9)
    assert lab.tell() == []


def test_a_notifier_tells_of_the_events_that_it_was_set_for(tmp_path: Path) -> None:
    lab = make_lab(tmp_path, notifiers=(SLACK, MAIL))
    lab.end(0.5, 0.1, 0.1, 0.1, 0.9)
    assert lab.tell() == ["Slack improved"]
    lab.finish(ExperimentStatus.DONE)
    assert lab.tell() == ["Slack done", "Mail done"]


def test_a_notifier_that_fails_is_tried_again_and_keeps_no_other_one_from_telling(tmp_path: Path) -> None:
    lab = make_lab(tmp_path, notifiers=(SLACK, MAIL))
    lab.finish(ExperimentStatus.DONE)

    def refuse(notifier: NotifierSettings, notice: Notice) -> None:
        if notifier is SLACK:
            raise ConnectionError("no route")
        lab._take(notifier, notice)

    (problem,) = send_notices(lab.store, lab.settings, refuse)
    assert "some.Slack did not tell 'done at" in problem
    assert "no route" in problem
    assert [path for path, _ in lab.told] == ["Mail"]
    assert lab.tell() == ["Slack done"]


def test_two_notifiers_of_one_class_tell_both_and_no_argument_is_noted(tmp_path: Path) -> None:
    pair = tuple(NotifierSettings(path="some.Slack", kwargs={"token": token}) for token in ("s3cr3t", "other"))
    lab = make_lab(tmp_path, notifiers=pair)
    lab.finish(ExperimentStatus.DONE)
    assert (lab.tell(), lab.tell()) == (["Slack done", "Slack done"], [])
    changes = lab.store.list_changes(ID)
    assert [(change.who, change.what) for change in changes] == [("trialflow", "notice")] * 2
    assert "s3cr3t" not in str(changes)


@pytest.mark.parametrize("sent", [False, True], ids=["before it has sent", "after it has sent"])
def test_a_sender_that_is_killed_leaves_nothing_untold(tmp_path: Path, sent: bool) -> None:
    """Told twice is what it may cost when the sender dies between sending and noting."""
    lab, box = make_lab(tmp_path), tmp_path / "box"
    lab.finish(ExperimentStatus.DONE)

    def deliver(_: NotifierSettings, notice: Notice) -> None:
        with box.open("a") as file:
            file.write(f"{notice.event}\n")

    child = os.fork()
    if child == 0:
        if sent:
            send_notices(lab.store, lab.settings, lambda *told: (deliver(*told), os.kill(os.getpid(), signal.SIGKILL)))
        send_notices(lab.store, lab.settings, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    for _ in range(3):
        assert send_notices(lab.store, lab.settings, deliver) == []
    assert box.read_text().split() == ["done"] * (2 if sent else 1)


@pytest.mark.parametrize(
    "value",
    ['[{"path": "no dots"}]', '[{"path": "a.B", "on": ["never"]}]', '[{"path": "a.B", "to": "x"}]', '[{}]', '{"a": 1}'],
)
def test_a_notifier_that_is_written_wrongly_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("TRIALFLOW_NOTIFIERS", value)
    with pytest.raises(ValidationError, match="notifiers"):
        Settings()


def test_notifiers_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIALFLOW_NOTIFIERS", '[{"path": "a.b.C", "kwargs": {"to": ["x"]}, "on": ["stalled"]}]')
    (notifier,) = Settings().notifiers
    assert notifier == NotifierSettings(path="a.b.C", kwargs={"to": ["x"]}, on=(NoticeEvent.STALLED,))
