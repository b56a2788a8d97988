"""A script that was written for NNI's Python interface, as a program of its own, at a real Airflow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from trialflow.records import ExperimentStatus

from .conftest import DAG_ID, NOOP, Lab, Run

SCRIPT = """
import json
from nni.experiment import Experiment

experiment = Experiment("local")
experiment.config.experiment_name = "script"
experiment.config.trial_command = "python3 model.py"
experiment.config.trial_code_directory = "."
experiment.config.search_space = {"x": {"_type": "uniform", "_value": [0, 1]}}
experiment.config.tuner.name = "TPE"
experiment.config.tuner.class_args["optimize_mode"] = "minimize"
experiment.config.max_trial_number = 3
experiment.config.trial_concurrency = 2
assert experiment.run(8080) is True

jobs = experiment.list_trial_jobs()
results = {result.trialJobId: result for result in experiment.export_data()}
for job in jobs:
    assert (job.status, job.startTime <= job.endTime) == ("SUCCEEDED", True), job
    assert job == experiment.get_trial_job(job.trialJobId)
    assert job.hyperParameters[0].parameters == results[job.trialJobId].parameter
    (metric,) = experiment.get_job_metrics(job.trialJobId)[job.trialJobId]
    assert metric == job.finalMetricData[0]
    assert metric.data == results[job.trialJobId].value == (results[job.trialJobId].parameter["x"] - 0.3) ** 2
assert experiment.get_experiment_profile()["params"]["searchSpace"] == experiment.config.search_space
assert experiment.get_experiment_metadata(experiment.id)["experimentName"] == "script"
experiment.update_max_trial_number(7)
experiment.stop()
print(json.dumps([experiment.id, [job.sequenceId for job in jobs]]))
"""


def test_a_script_for_nni_runs_unchanged(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(NOOP)
    (tmp_path / "main.py").write_text(SCRIPT)
    with lab.web("user") as web:
        token = web.headers["Authorization"].removeprefix("Bearer ")
    own = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "TRIALFLOW"))}
    own.update(TRIALFLOW_URL=lab.installation.url, TRIALFLOW_TOKEN=token)

    done = subprocess.run(
        [sys.executable, "main.py"], cwd=tmp_path, env=own, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    experiment_id, numbers = json.loads(lines[-1])
    assert numbers == [0, 1, 2]
    assert f"/dags/{DAG_ID}/runs/" in lines[0]
    assert "DONE; 3 of 3 trials: 3 SUCCEEDED; best " in lines[-2]
    experiment = lab.store.get_experiment(experiment_id)
    assert (experiment.status, experiment.max_trial_number) == (ExperimentStatus.DONE, 7)
    assert experiment.spec.code_directory == str(tmp_path)
    assert Run(lab, lab.store.list_runs(experiment_id)[0]).wait() == "success"
