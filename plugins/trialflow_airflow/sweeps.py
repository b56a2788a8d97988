"""Scheduled sweeps: a small YAML file names an experiment file and a schedule."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from trialflow.config import read_source
from trialflow.config.pydantic_problems import validate
from trialflow.errors import ConfigError
from trialflow.messages import Problem
from trialflow_airflow.dag_factory import make_experiment_dag

if TYPE_CHECKING:
    from pathlib import Path

    from airflow.sdk import DAG

_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")


class Sweep(BaseModel):
    """What a sweep file may say.

    Attributes:
        experiment: Path of the experiment file, relative to the sweep file.
        schedule: A cron expression or one of Airflow's presets, ``@daily`` for example.
        description: Shown in Airflow's UI.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    experiment: Annotated[str, StringConstraints(strict=True, min_length=1)]
    schedule: Annotated[str, StringConstraints(strict=True, min_length=1)]
    description: Annotated[str, Field(strict=True)] = "Repeats an NNI experiment."


def make_sweep_dags(folder: Path) -> list[DAG]:
    """A DAG per file ``*.yml`` of a folder, called ``nni_sweep__<file name>``.

    Raises:
        ConfigError: A file is not a sweep; Airflow shows this as an import error of the DAG file.
    """
    return [_make_dag(path) for path in sorted(folder.glob("*.yml"))]


def _make_dag(path: Path) -> DAG:
    source = read_source(path)
    sweep, problems = validate(Sweep, source.data, source)
    if not _NAME.fullmatch(path.stem):
        rule = "the file's name becomes the DAG's: 1 to 100 letters, digits, - and _"
        problems.append(Problem("", rule, path.stem, "Rename it", str(path)))
    if sweep is None or problems:
        raise ConfigError(problems)
    return make_experiment_dag(
        f"nni_sweep__{path.stem}",
        config=str((path.parent / sweep.experiment).resolve()),
        schedule=sweep.schedule,
        start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
        description=sweep.description,
        tags=("sweep",),
    )
