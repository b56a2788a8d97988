"""One scheduled DAG per file in include/sweeps: an experiment that repeats."""

from __future__ import annotations

from pathlib import Path

from trialflow_airflow.sweeps import make_sweep_dags

SWEEPS = Path(__file__).resolve().parents[1] / "include" / "sweeps"

globals().update({dag.dag_id: dag for dag in make_sweep_dags(SWEEPS)})
