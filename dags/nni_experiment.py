"""The DAG that runs one NNI experiment per trigger."""

from __future__ import annotations

from trialflow.records import DAG_ID
from trialflow_airflow.dag_factory import make_experiment_dag

dag = make_experiment_dag(DAG_ID)
