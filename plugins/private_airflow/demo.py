"""The demo: one experiment on the private Airflow from start to end, with the commands that people type."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from private_airflow.client import Client
from private_airflow.installation import USER, Installation
from private_airflow.lifecycle import find_keeper, start, stop
from private_airflow.reporting import Reporter
from trialflow.errors import NotFoundError
from trialflow.experiment.showing.results import (
    HISTORY_PICTURE,
    IMPORTANCE_PICTURE,
    RESULT_FILE,
    TRIALS_FILE,
    find_best,
)
from trialflow.records import Experiment, ExperimentStatus, Trial, describe_parameters
from trialflow.store import Store
from trialflow_airflow.identity import DAG_ID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_POLL_SECONDS = 2.0
# A busy Airflow may not answer at once.
_PATIENCE_SECONDS = 60.0
# It takes some seconds, and a busy machine its time.
_STOP_TIMEOUT_SECONDS = 90.0
_ENDED = ("success", "failed")
_INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_demo(installation: Installation, config: Path) -> int:
    """Run an experiment from start to end.

    Ctrl-C, SIGTERM and a terminal that is closed stop the experiment; the second one does not wait for that. An Airflow
    that ran before is left running; one that was started here is ended, whatever happens.

    Returns:
        The exit code: 0 when the experiment is done and has a best trial, 128 and the signal's number after a signal.
    """
    was_running = find_keeper(installation) is not None
    demo = Demo(Console(), installation)
    terminals = [stream for stream in (1, 2) if os.isatty(stream)]
    with _handling(partial(_interrupt, terminals)):
        try:
            return demo.run(config)
        except (CommandError, httpx.HTTPError) as error:
            demo.say(str(error))
            demo.say(demo.stop())
            return 1
        except KeyboardInterrupt as interruption:
            demo.say("Interrupted; stopping the experiment. Interrupt again to wait no longer.")
            demo.say(demo.stop())
            return 128 + int(interruption.args[0])
        finally:
            if not was_running:
                with _handling(signal.SIG_IGN):
                    demo.leave_creation()
                    stop(installation, Reporter(demo.say))


class CommandError(Exception):
    """A command of ``nnictl`` has failed; the message is its own."""


@dataclass
class Demo:
    """One run of an experiment.

    Attributes:
        may_run: Whether an experiment may have been created.
        creation: The command that creates it, from its start on.
        experiment_id: From the end of that command on.
    """

    console: Console
    installation: Installation
    may_run: bool = False
    creation: subprocess.Popen[str] | None = None
    experiment_id: str | None = None

    def run(self, config: Path) -> int:
        """Run to the end; gives the exit code."""
        start(self.installation, Reporter(self.say))
        client = Client(self.installation)
        client.wait_for_dag(DAG_ID)
        client.close()
        self._type("login", self.installation.url, "--user", USER)
        self._create(config)
        assert self.experiment_id is not None
        self._follow(self.experiment_id)
        self._type("experiment", "show", self.experiment_id)
        self._type("trial", "ls", self.experiment_id)
        return self.show_results(self.experiment_id)

    def say(self, text: str) -> None:
        """Print a line, to whoever is still there to read it."""
        with suppress(OSError):
            self.console.print(text, markup=False, soft_wrap=True, highlight=False)

    # ── the commands ─────────────────────────────────────────────────────────────────────────────────────────────

    def _start_command(self, *arguments: str) -> subprocess.Popen[str]:
        """Start ``nnictl``, with a login of its own beside the user's; Ctrl-C in the terminal does not reach it."""
        others = ("TRIALFLOW_URL", "TRIALFLOW_TOKEN")
        inherited = {name: value for name, value in os.environ.items() if name not in others}
        login = {
            "TRIALFLOW_CLI_CONFIG": str(self.installation.home / "nnictl.json"),
            "TRIALFLOW_PASSWORD": self.installation.password,
        }
        return subprocess.Popen(
            [Path(sys.executable).with_name("nnictl"), *arguments],
            env={**inherited, **login},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def _type(self, *arguments: str) -> None:
        """Run a command as people type it, and show what it says."""
        self.say(f"$ nnictl {shlex.join(arguments)}")
        self.say(self._run(*arguments).rstrip())

    def _run(self, *arguments: str) -> str:
        command = self._start_command(*arguments)
        try:
            return _finish(command)
        except BaseException:
            command.kill()
            command.wait()
            raise

    def _ask(self, *arguments: str) -> Any:
        """What a command tells a program; one that fails is tried again for a while."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                return json.loads(self._run(*arguments, "--output", "json"))
            except CommandError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_POLL_SECONDS)

    def _create(self, config: Path) -> None:
        arguments = ("create", "-c", str(config))
        self.say(f"$ nnictl {shlex.join(arguments)}")
        self.may_run = True
        self.creation = self._start_command(*arguments)
        self.say(self._await_creation(self.creation).rstrip())

    def _await_creation(self, creation: subprocess.Popen[str], timeout_seconds: float | None = None) -> str:
        said = _finish(creation, timeout_seconds)
        named = re.search(r"experiment id is (\w+)", said)
        if named is None:
            raise CommandError(f"nnictl create named no experiment: {said}")
        self.experiment_id = named[1]
        return said

    def leave_creation(self) -> None:
        """Let no command outlive the demo."""
        if self.creation is not None and self.creation.poll() is None:
            self.creation.kill()
            self.creation.wait()

    # ── following ────────────────────────────────────────────────────────────────────────────────────────────────

    def _follow(self, experiment_id: str) -> None:
        """Show progress until the experiment and its runs have ended."""
        news = TextColumn("{task.fields[news]}")
        columns = (TextColumn("trials"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), news)
        shown = ""
        with Progress(*columns, console=self.console, disable=not self.console.is_terminal) as progress:
            bar = progress.add_task("trials", total=None, news="")
            while True:
                # Asked first, so that what is looked at next is all there is.
                has_ended = self._runs_have_ended(experiment_id)
                (look,) = self._ask("top", experiment_id)
                done, total = _count_done(look), look["params"]["maxTrialNum"]
                text = _describe_progress(look, self._find_best(experiment_id))
                progress.update(bar, completed=done, total=total, news=text)
                if not self.console.is_terminal and text.partition(", about")[0] != shown:
                    shown = text.partition(", about")[0]
                    self.say(text)
                if has_ended:
                    return
                time.sleep(_POLL_SECONDS)

    def _find_best(self, experiment_id: str) -> Trial | None:
        experiment, trials = self.look(experiment_id)
        return find_best(trials, experiment.spec.optimize_mode)

    def _runs_have_ended(self, experiment_id: str) -> bool:
        """Whether Airflow has nothing to do for the experiment any more."""
        is_final = self.look(experiment_id)[0].status.is_final
        client = Client(self.installation)
        runs = Store(self.installation.store_url).list_runs(experiment_id)
        states = [_state_of(client, run) for run in runs]
        client.close()
        # The following run may be about to be made, unless one has failed.
        return (is_final or "failed" in states) and all(state in _ENDED for state in states)

    def look(self, experiment_id: str) -> tuple[Experiment, list[Trial]]:
        """The experiment and its trials, also when Airflow does not answer."""
        store = Store(self.installation.store_url)
        return store.get_experiment(experiment_id), store.list_trials(experiment_id)

    # ── ending ───────────────────────────────────────────────────────────────────────────────────────────────────

    def stop(self) -> str:
        """Stop the experiment, and wait until nothing of it is left; tells what was done."""
        try:
            is_over = self._stop_experiment()
        except (KeyboardInterrupt, httpx.HTTPError, CommandError, NotFoundError, subprocess.TimeoutExpired):
            is_over = False
        if self.experiment_id is None:
            return "No experiment was started." if is_over else "The experiment may go on with the next make up."
        try:
            experiment, trials = self.look(self.experiment_id)
        except NotFoundError:
            return f"The experiment {self.experiment_id} goes on with the next make up."
        name, done = f"Experiment {experiment.id}", sum(trial.value is not None for trial in trials)
        if not experiment.status.is_final:
            return f"{name} was not stopped, and goes on with the next make up: nnictl stop {experiment.id}"
        rest = "nothing of it runs any more" if is_over else "the next make up clears away what is left of it"
        return f"{name} is {experiment.status} with {done} of {len(trials)} trials done; {rest}."

    def _stop_experiment(self) -> bool:
        """Whether experiment and runs come to their end; false when that takes too long."""
        if not self.may_run:
            return True
        if self.creation is None:  # We were interrupted just when it began.
            return False
        if self.experiment_id is None:
            try:
                self._await_creation(self.creation, _STOP_TIMEOUT_SECONDS)
            except CommandError as error:  # There is nothing to be stopped.
                self.say(str(error))
                return True
        assert self.experiment_id is not None
        experiment, _ = self.look(self.experiment_id)
        if not experiment.status.is_final:
            self._type("stop", self.experiment_id)
        deadline = time.monotonic() + _STOP_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            _, trials = self.look(self.experiment_id)
            if all(trial.reported_at is not None for trial in trials) and self._runs_have_ended(self.experiment_id):
                return True
            time.sleep(_POLL_SECONDS)
        return False

    def show_results(self, experiment_id: str) -> int:
        """Name the files and the best trial; gives the exit code."""
        experiment, trials = self.look(experiment_id)
        for name in (RESULT_FILE, TRIALS_FILE, HISTORY_PICTURE, IMPORTANCE_PICTURE):
            file = Path(experiment.folder, name)
            if file.exists():  # There is not always something to draw.
                self.say(str(file))
        best = find_best(trials, experiment.spec.optimize_mode)
        if best is None or experiment.status is not ExperimentStatus.DONE:
            self.say(f"Experiment {experiment.status}: no best trial. {experiment.status_reason}")
            return 1
        self.say(f"Best: {best.value:.4f} with {describe_parameters(best.parameters or {})}")
        return 0


def _state_of(client: Client, run: str) -> str:
    """The state of a run; one that is planned may be about to be made."""
    try:
        return str(client.call("GET", f"dags/{DAG_ID}/dagRuns/{run}")["state"])
    except httpx.HTTPStatusError as error:
        if error.response.status_code != httpx.codes.NOT_FOUND:
            raise
        return "planned"


def _finish(command: subprocess.Popen[str], timeout_seconds: float | None = None) -> str:
    """What a command has said in the end."""
    said, complaint = command.communicate(timeout=timeout_seconds)
    if command.returncode != 0:
        raise CommandError(complaint.strip() or f"nnictl ended with exit code {command.returncode}")
    return said


def _count_done(look: dict[str, Any]) -> int:
    running = ("WAITING", "RUNNING", "UNKNOWN")
    counts = {item["trialJobStatus"]: item["trialJobNumber"] for item in look["jobStatistics"]}
    return sum(number for status, number in counts.items() if status not in running)


def _describe_progress(look: dict[str, Any], best: Trial | None) -> str:
    done, total, seconds = _count_done(look), look["params"]["maxTrialNum"], look["execDuration"]
    news = [f"{done} of {total} trials done", "no result yet" if best is None else f"best so far {best.value:.4f}"]
    if 0 < done < total:
        news.append(f"about {seconds / done * (total - done):.0f} s left")
    return ", ".join(news)


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
