"""The demo: run one experiment on the private Airflow, show how it goes, and what came of it.

    python -m trialflow_airflow.demo
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from trialflow.errors import NotFoundError, TrialflowError
from trialflow.experiment.operating.actions import Actions
from trialflow.experiment.showing.results import (
    HISTORY_PICTURE,
    IMPORTANCE_PICTURE,
    RESULT_FILE,
    TRIALS_FILE,
    find_best,
)
from trialflow.records import Experiment, ExperimentStatus, Trial, describe_parameters
from trialflow.settings import Settings
from trialflow.store import Store
from trialflow_airflow.embedded import CHECKOUT, USER, Client, Embedded
from trialflow_airflow.identity import DAG_ID, identify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_POLL_SECONDS = 0.5
# It takes some seconds, and a busy machine its time.
_STOP_TIMEOUT_SECONDS = 90.0
_ENDED = ("success", "failed")
_INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_demo(embedded: Embedded, config: Path) -> int:
    """Run an experiment from start to end.

    Ctrl-C, SIGTERM and a terminal that is closed stop the experiment; the second one does not wait for that. An Airflow
    that ran before is left running; one that was started here is ended, whatever happens.

    Returns:
        The exit code: 0 when the experiment is done and has a best trial, 128 and the signal's number after a signal.
    """
    was_running = embedded.group is not None
    demo = _Demo(Console(), embedded, f"demo__{datetime.now(timezone.utc).isoformat()}")
    terminals = [stream for stream in (1, 2) if os.isatty(stream)]
    with _handling(partial(_interrupt, terminals)):
        try:
            return demo.run(config)
        except KeyboardInterrupt as interruption:
            demo.say("Interrupted; stopping the experiment. Interrupt again to wait no longer.")
            demo.say(demo.stop())
            return 128 + int(interruption.args[0])
        finally:
            if not was_running:
                with _handling(signal.SIG_IGN):
                    demo.say("Ending the private Airflow …")
                    embedded.stop()


@dataclass
class _Demo:
    """One run of an experiment.

    Attributes:
        may_run: Whether the run may have been triggered.
    """

    console: Console
    embedded: Embedded
    run_id: str
    may_run: bool = False

    def run(self, config: Path) -> int:
        """Run to the end; gives the exit code."""
        with self.console.status("Starting a private Airflow …"):
            self.embedded.start()
            client = Client(self.embedded)
            client.wait_for_dag(DAG_ID)
        self.may_run = True
        client.trigger(DAG_ID, {"config": str(config)}, self.run_id)
        where = f"Airflow runs at {self.embedded.url}; run {self.run_id} of {DAG_ID} on {config}"
        self.console.print(where, markup=False)
        state = _follow(self.console, self.embedded, client, self.run_id)
        client.close()
        return _show(self.console, self.embedded, self.run_id, state)

    def say(self, text: str) -> None:
        """Print a line, to whoever is still there to read it."""
        with suppress(OSError):
            self.console.print(text, markup=False, soft_wrap=True)

    def stop(self) -> str:
        """Stop the experiment, as ``nnictl stop`` does, and wait until nothing of it is left; tells what was done."""
        try:
            is_over = not self.may_run or self._stop_run()
        except (KeyboardInterrupt, httpx.HTTPError, TrialflowError):
            is_over = False
        found = _look(self.embedded, self.run_id)
        if found is None:
            return "No experiment was started." if is_over else f"The run {self.run_id} goes on with the next make up."
        experiment, trials = found
        name, done = f"Experiment {experiment.id}", sum(trial.value is not None for trial in trials)
        if not experiment.status.is_final:
            return f"{name} was not stopped, and goes on with the next make up: nnictl stop {experiment.id}"
        rest = "nothing of it runs any more" if is_over else "the next make up clears away what is left of it"
        return f"{name} is {experiment.status} with {done} of {len(trials)} trials done; {rest}."

    def _stop_run(self) -> bool:
        """Whether run and experiment come to their end; false when that takes too long."""
        client, path = Client(self.embedded), f"dags/{DAG_ID}/dagRuns/{self.run_id}"
        if _look(self.embedded, self.run_id) is None and not self._fail_run(client, path):
            return True
        deadline = time.monotonic() + _STOP_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            # Again and again, for the run may make the experiment at this moment.
            if self._has_ended() and client.call("GET", path)["state"] in _ENDED:
                return True
            time.sleep(_POLL_SECONDS)
        return False

    def _fail_run(self, client: Client, path: str) -> bool:
        """Let the run go no further; tells whether there is one."""
        try:
            client.call("PATCH", path, json={"state": "failed"})
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.NOT_FOUND:
                raise
            return False
        return True

    def _has_ended(self) -> bool:
        """Whether nothing of the experiment lives, which is stopped for that."""
        found = _look(self.embedded, self.run_id)
        if found is None:
            return True
        experiment, trials = found
        if not experiment.status.is_final:
            Actions(experiment.id, USER, Settings(home=self.embedded.home, store=self.embedded.store_url)).stop()
        return experiment.status.is_final and all(trial.reported_at is not None for trial in trials)


@contextmanager
def _handling(handler: Callable[[int, Any], None] | signal.Handlers) -> Iterator[None]:
    """Handle in one way what interrupts; a signal that is ignored, as SIGHUP below nohup, stays ignored."""
    before = {number: old for number in _INTERRUPTIONS if (old := signal.getsignal(number)) is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _interrupt(terminals: list[int], number: int, _frame: Any) -> None:
    if number == signal.SIGHUP:  # To print to a terminal that is gone is an error.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in terminals:
            os.dup2(nowhere, stream)
    raise KeyboardInterrupt(number)


def _follow(console: Console, embedded: Embedded, client: Client, run_id: str) -> str:
    """Show progress until the run has ended; gives its state."""
    news = TextColumn("{task.fields[news]}")
    columns = (TextColumn("trials"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), news)
    shown = -1
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("trials", total=None, news="")
        while True:
            state = str(client.call("GET", f"dags/{DAG_ID}/dagRuns/{run_id}")["state"])
            found = _look(embedded, run_id)
            if found is not None:
                done = _show_progress(progress, bar, *found)
                if done != shown and not console.is_terminal:
                    console.print(progress.tasks[0].fields["news"])
                shown = done
            if state in _ENDED and (found is None or found[0].status.is_final or state == "failed"):
                return state
            time.sleep(_POLL_SECONDS)


def _look(embedded: Embedded, run_id: str) -> tuple[Experiment, list[Trial]] | None:
    """The experiment and its trials; ``None`` while it is not in the store."""
    experiment_id = identify(DAG_ID, run_id).experiment_id
    try:
        store = Store(embedded.store_url)
        return store.get_experiment(experiment_id), store.list_trials(experiment_id)
    except NotFoundError:
        return None


def _show_progress(progress: Progress, bar: TaskID, experiment: Experiment, trials: list[Trial]) -> int:
    done = sum(trial.reported_at is not None for trial in trials)
    total = experiment.max_trial_number
    best = find_best(trials, experiment.spec.optimize_mode)
    news = [f"{done} of {total} trials done", "no result yet" if best is None else f"best so far {best.value:.4f}"]
    if done and experiment.started_at and done < total:
        left = (time.time() - experiment.started_at) / done * (total - done)
        news.append(f"about {left:.0f} s left")
    progress.update(bar, completed=done, total=total, news=", ".join(news))
    return done


def _show(console: Console, embedded: Embedded, run_id: str, state: str) -> int:
    found = _look(embedded, run_id)
    if found is None:
        console.print(f"The experiment was not loaded (run {state}); the logs are in {embedded.home / 'airflow/logs'}")
        return 1
    experiment, trials = found
    table = Table(title=f"Trials of experiment {experiment.id} ({escape(experiment.spec.name)})")
    for column in ("#", "trial", "status", "value", "seconds", "parameters"):
        table.add_column(column, justify="right" if column in ("#", "value", "seconds") else "left")
    best = find_best(trials, experiment.spec.optimize_mode)
    for trial in trials:
        seconds = f"{trial.ended_at - trial.started_at:.1f}" if trial.ended_at and trial.started_at else ""
        value = "" if trial.value is None else f"{trial.value:.4f}"
        parameters = escape(describe_parameters(trial.parameters or {}))
        style = "bold" if best is trial else ""
        table.add_row(str(trial.number), trial.id, trial.status.value, value, seconds, parameters, style=style)
    console.print(table)
    for name in (RESULT_FILE, TRIALS_FILE, HISTORY_PICTURE, IMPORTANCE_PICTURE):
        file = Path(experiment.folder, name)
        if file.exists():  # There is not always something to draw.
            console.print(str(file), markup=False, soft_wrap=True, highlight=False)
    if best is None or experiment.status is not ExperimentStatus.DONE:
        console.print(f"Experiment {experiment.status}: no best trial. {escape(experiment.status_reason)}")
        return 1
    console.print(f"Best: {best.value:.4f} with {escape(describe_parameters(best.parameters or {}))}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_demo(Embedded.open(), CHECKOUT / "examples" / "01-digits" / "config.yml"))
