"""The DAG that tells people of experiments, where TRIALFLOW_NOTIFIERS names notifiers."""

from __future__ import annotations

from trialflow_airflow.notifications import make_notification_dag

dag = make_notification_dag()
