"""How a trial is called where people look at tasks."""

from __future__ import annotations

from trialflow.records import Trial, one_line

# The length of Airflow's column for it.
_LONGEST = 250


def task_label(trial: Trial) -> str:
    """The trial with what it waits for or has come to."""
    if trial.ended_at is None:
        text = f"{trial.label}: {trial.reason:.80}" if trial.reason else trial.label
    else:
        text = f"{trial.label} → {trial.status if trial.value is None else format(trial.value, '.6g')}"
    return one_line(text, _LONGEST)
