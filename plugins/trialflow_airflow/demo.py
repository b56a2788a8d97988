"""The demo: run one experiment on the private Airflow, show how it goes, and what came of it."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from trialflow.errors import NotFoundError
from trialflow.experiment.results import (
    HISTORY_PICTURE,
    IMPORTANCE_PICTURE,
    RESULT_FILE,
    TRIALS_FILE,
    find_best,
)
from trialflow.records import DAG_ID, Experiment, ExperimentStatus, Trial, describe_parameters
from trialflow.store import Store
from trialflow_airflow.embedded import Client, Embedded
from trialflow_airflow.identity import identify

_POLL_SECONDS = 0.5


def run_demo(embedded: Embedded, config: Path) -> int:
    """Run an experiment from start to end.

    An Airflow that ran before is left running; one that was started here is ended, whatever happens.

    Returns:
        The exit code: 0 when the experiment is done and has a best trial.
    """
    console = Console()
    was_running = embedded.group is not None
    try:
        with console.status("Starting a private Airflow …"):
            embedded.start()
            client = Client(embedded)
            client.wait_for_dag(DAG_ID)
        run_id = client.trigger(DAG_ID, {"config": str(config)})
        console.print(f"Airflow runs at {embedded.url}; run {run_id} of {DAG_ID} on {escape(str(config))}")
        state = _follow(console, embedded, client, run_id)
        client.close()
        return _show(console, embedded, run_id, state)
    except KeyboardInterrupt:
        console.print("Interrupted; the experiment is stopped.")
        return 130
    finally:
        if not was_running:
            with console.status("Ending the private Airflow …"):
                embedded.stop()


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
            if state in ("success", "failed") and (found is None or found[0].status.is_final or state == "failed"):
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
