from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from trialflow_airflow.embedded import Embedded

from .conftest import processes_of, trial_processes


def test_the_demo_tunes_the_digits_and_leaves_nothing_running(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.db"
    of_another = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{foreign}"}
    environment = {**os.environ, **of_another, "TRIALFLOW_EMBEDDED_HOME": str(tmp_path), "COLUMNS": "200"}
    command = [sys.executable, "-m", "trialflow_airflow.embedded", "demo"]
    shell = {**os.environ, **Embedded.open(tmp_path).settings()}  # After: eval "$(make env)"
    with subprocess.Popen(["sleep", "420"], env=shell) as bystander:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=420, check=False)
        assert bystander.poll() is None
        bystander.kill()

    assert done.returncode == 0, done.stdout + done.stderr
    assert "10 of 10 trials done" in done.stdout
    (result_file,) = re.findall(r"\S+/result\.json", done.stdout)
    result = json.loads(Path(result_file).read_text())
    assert result["trials"] == {"SUCCEEDED": 10}
    assert 0.9 < result["best"]["value"] <= 1.0
    assert f"Best: {result['best']['value']:.4f}" in done.stdout
    assert {path.name for path in Path(result["folder"]).glob("*.png")} == {"history.png", "importance.png"}
    assert trial_processes(result["folder"]) == []
    assert processes_of(tmp_path) == []
    assert not foreign.exists()
