"""A private Airflow for one person on one machine: SQLite, LocalExecutor, 127.0.0.1 only.

- `installation`: where it lies, its ports, secrets and environment;
- `lifecycle`: start it, end it, look at it;
- `keeper`: the process that starts its components and starts them again;
- `processes`: which processes of this machine are its own;
- `client`: its REST API; `demo`: an experiment from start to end, with the commands that people type.
"""
