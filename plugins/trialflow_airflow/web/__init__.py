"""NNI's REST interface in Airflow's API server."""
