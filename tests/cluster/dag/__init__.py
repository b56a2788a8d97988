"""The whole DAG: a real Airflow that runs its experiments on the real cluster."""
