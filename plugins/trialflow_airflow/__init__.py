"""The Airflow layer: what carries an experiment out as a DAG. Thin; what things mean is in `trialflow`."""
