"""The DAG that runs one NNI experiment per trigger."""

from __future__ import annotations

from trialflow_airflow.dag_factory import make_experiment_dag
from trialflow_airflow.identity import DAG_ID

dag = make_experiment_dag(DAG_ID)
