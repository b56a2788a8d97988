"""What happens inside a pod: the real run script, as a process, with the pod's mounts below a folder of its own."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from trialflow.experiment.operating.folders import remove_folder
from trialflow.metrics import MetricsTail
from trialflow.records import Experiment
from trialflow.sdk import SDK_FOLDER
from trialflow.training import JobRequest
from trialflow.training.kubeflow.attempt_folder import AttemptFolder
from trialflow.training.kubeflow.manifest import POD_ROOT, run_script_name
from trialflow.training.kubeflow.run_script import LOST_EXIT_CODE, make_run_script
from trialflow.training.kubeflow.section import Role

from .kubeflow_lab import make_role, wait_for


@dataclass
class Storage:
    """An attempt on the storage, and pods that come to it."""

    folder: AttemptFolder
    code: Path
    scratch: Path
    pods: int = 0

    def pod(self, index: str = "0", **environment: str) -> subprocess.Popen[bytes]:
        """Start a pod of the worker."""
        self.pods += 1
        root = self.scratch / f"pod-{self.pods}"
        (root / "work").mkdir(parents=True)
        links = {"code": self.code, "sdk": SDK_FOLDER, "trial": self.folder.path}
        for name, target in links.items():
            (root / name).symlink_to(target)
        script = (self.folder.path / run_script_name("worker")).read_text().replace(POD_ROOT, str(root))
        (root / "script").write_text(script)
        return subprocess.Popen(
            ["sh", str(root / "script")],
            env={"PATH": os.environ["PATH"], "TRIALFLOW_REPLICA_INDEX": index, **environment},
            cwd="/",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def run(self, index: str = "0", **environment: str) -> tuple[int, str, str]:
        """Run a pod to its end; gives its exit code and its log."""
        pod = self.pod(index, **environment)
        out, err = pod.communicate(timeout=30)
        return pod.returncode, out.decode(), err.decode()

    def output(self, index: int = 0) -> Path:
        return self.folder.replica(f"worker-{index}")


def prepare(tmp_path: Path, command: str, **changes: Any) -> Storage:
    values = {**make_role(command), **changes}
    role = Role("worker", values["replicas"], command, "image", values["gpuNum"], 1, 128)
    folder = AttemptFolder(tmp_path / "trials" / "abcde" / "1")
    request = JobRequest("exp", "abcde", 3, 1, {"x": 0.5}, None, "/code", str(folder.path))
    script = make_run_script(request, role, "own")
    folder.prepare({"parameter.cfg": request.parameter_file, run_script_name("worker"): script}, [role])
    code = tmp_path / "code"
    (code / "lib").mkdir(parents=True)
    (code / "data.txt").write_text("data")
    (code / "lib" / "helper.py").write_text("ANSWER = 42\n")
    return Storage(folder, code, tmp_path / "pods")


def test_output_reaches_the_pod_s_log_and_the_storage(tmp_path: Path) -> None:
    storage = prepare(tmp_path, "echo printed; echo complained >&2; exit 3")
    assert storage.run() == (3, "printed\n", "complained\n")
    assert (storage.output() / "stdout").read_text() == "printed\n"
    assert (storage.output() / "stderr").read_text() == "complained\n"
    assert [(end.replica, end.code) for end in storage.folder.exits()] == [("worker-0", 3)]


@pytest.mark.parametrize(
    ("command", "printed"),
    [
        ("""printf '%s' "it's $((1 + 4)) \\$HOME" """, "it's 5 $HOME"),
        ("echo 'a b'; # a comment", "a b\n"),
        ("echo one && echo two\necho three", "one\ntwo\nthree\n"),
        ("cat <<'EOF'\n$(touch /tmp/never) `id`\nEOF", "$(touch /tmp/never) `id`\n"),
        ("echo ünï—✓", "ünï—✓\n"),
    ],
)
def test_a_command_is_taken_as_it_is(tmp_path: Path, command: str, printed: str) -> None:
    assert prepare(tmp_path, command).run()[:2] == (0, printed)


def test_a_trial_works_in_a_copy_of_the_code(tmp_path: Path) -> None:
    command = "cat data.txt; python3 -c 'import lib.helper; print(lib.helper.ANSWER)'; echo x > data.txt; touch new"
    storage = prepare(tmp_path, command)
    assert storage.run() == (0, "data42\n", "")
    assert (storage.code / "data.txt").read_text() == "data"
    assert not (storage.code / "new").exists()


def test_the_environment_is_that_of_nni_s_local_platform(tmp_path: Path) -> None:
    storage = prepare(tmp_path, "env")
    code, printed, _ = storage.run(PYTHONPATH="/opt/lib", HOME="/nonexistent")
    environment = dict(line.split("=", 1) for line in printed.splitlines() if "=" in line)
    pod = str(storage.scratch / "pod-1")
    assert code == 0
    assert {name: value for name, value in environment.items() if name.startswith(("NNI_", "MULTI"))} == {
        "NNI_PLATFORM": "local",
        "NNI_EXP_ID": "exp",
        "NNI_TRIAL_JOB_ID": "abcde",
        "NNI_TRIAL_SEQ_ID": "3",
        "NNI_SYS_DIR": f"{pod}/trial/output/worker-0",
        "NNI_OUTPUT_DIR": f"{pod}/trial/output/worker-0",
        "NNI_CODE_DIR": f"{pod}/work/code",
        "MULTI_PHASE": "false",
    }
    assert environment["PYTHONPATH"] == f"{pod}/sdk:/opt/lib"
    assert environment["CUDA_VISIBLE_DEVICES"] == ""
    assert environment["HOME"] == f"{pod}/work/home"
    assert environment["PWD"] == f"{pod}/work/code"


def test_a_trial_with_gpus_sees_what_it_was_given(tmp_path: Path) -> None:
    storage = prepare(tmp_path, "env", gpuNum=1)
    assert "CUDA_VISIBLE_DEVICES=0" in storage.run(CUDA_VISIBLE_DEVICES="0")[1]


def test_replicas_write_files_of_their_own(tmp_path: Path) -> None:
    code = (
        "import nni; p = nni.get_next_parameter()['x']; i = nni.get_trial_id(); "
        "nni.report_intermediate_result(p); nni.report_final_result(p * 2); print(i)"
    )
    storage = prepare(tmp_path, f'python3 -c "{code}"', replicas=2)
    assert [storage.run(index)[:2] for index in ("1", "0")] == [(0, "abcde\n"), (0, "abcde\n")]
    for index in (0, 1):
        metrics = MetricsTail(storage.folder.root, storage.folder.metrics_file(f"worker-{index}")).read()
        assert [(metric.type, metric.value) for metric in metrics] == [("PERIODICAL", 0.5), ("FINAL", 1.0)]


def test_an_old_operator_s_pods_know_their_index_by_their_name(tmp_path: Path) -> None:
    storage = prepare(tmp_path, "true", replicas=2)
    assert storage.run("", HOSTNAME="nni-exp-a-trial-b-1-worker-1")[0] == 0
    assert [end.replica for end in storage.folder.exits()] == ["worker-1"]


def test_a_pod_that_was_not_planned_writes_nowhere(tmp_path: Path) -> None:
    storage = prepare(tmp_path, "echo ran")
    code, printed, complaint = storage.run("7")
    assert (code, printed) == (1, "")
    assert "worker-7 cannot be written to" in complaint


def test_a_pod_that_replaces_a_lost_one_does_not_run_the_trial_again(tmp_path: Path) -> None:
    storage = prepare(tmp_path, "echo ran >> $NNI_OUTPUT_DIR/runs; sleep 600")
    lost, runs = storage.pod(), storage.output() / "runs"
    wait_for(lambda: runs.exists() and runs.read_text())
    os.killpg(lost.pid, signal.SIGKILL)
    lost.communicate()
    assert storage.run()[0] == LOST_EXIT_CODE
    assert runs.read_text() == "ran\n"
    assert storage.folder.exits() == []


@pytest.mark.parametrize("code", [0, 3])
def test_a_pod_that_replaces_an_ended_one_repeats_what_it_said(tmp_path: Path, code: int) -> None:
    storage = prepare(tmp_path, f"echo ran; exit {code}")
    assert storage.run()[0] == code
    assert storage.run() == (code, "", "")


def test_what_a_command_leaves_behind_does_not_hold_the_pod(tmp_path: Path) -> None:
    storage = prepare(tmp_path, "sleep 300 & echo done")
    pod = storage.pod()
    assert pod.wait(15) == 0
    os.killpg(pod.pid, signal.SIGKILL)
    assert pod.communicate()[0] == b"done\n"


def test_a_command_hears_that_it_shall_end_and_its_answer_does_not_count(tmp_path: Path) -> None:
    code = """
import os, signal, sys, time
def end(*_):
    os.write(1, b"saved\\n")  # The signal may come while print writes, which cannot be entered twice.
    sys.exit(7)
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
time.sleep(600)
"""
    storage = prepare(tmp_path, "exec python3 main.py")
    (storage.code / "main.py").write_text(code)
    pod = storage.pod()
    wait_for(lambda: (storage.output() / "stdout").read_text() == "ready\n")
    pod.send_signal(signal.SIGTERM)
    assert pod.communicate(timeout=10) == (b"ready\nsaved\n", b"")
    assert pod.returncode == LOST_EXIT_CODE
    assert storage.folder.exits() == []


def open_way(tmp_path: Path) -> None:
    """Let other users come to a test's folder."""
    for folder in [tmp_path, *tmp_path.parents]:
        if folder.is_relative_to("/tmp") and folder != Path("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o755)


def run_as(user: int, storage: Storage) -> subprocess.CompletedProcess[str]:
    """Run a pod of another user to its end."""
    pod = storage.scratch / "pod"
    (pod / "work").mkdir(parents=True)
    (pod / "work").chmod(0o777)
    for name, target in {"code": storage.code, "trial": storage.folder.path}.items():
        (pod / name).symlink_to(target)
    script = (storage.folder.path / "run-worker.sh").read_text().replace(POD_ROOT, str(pod))
    environment = {"PATH": os.environ["PATH"], "TRIALFLOW_REPLICA_INDEX": "0"}
    return subprocess.run(
        ["sh", "-c", script], user=user, group=user, extra_groups=[], umask=0o077, env=environment, cwd="/",
        capture_output=True, text=True, check=False, start_new_session=True,
    )  # fmt: skip


def act_as(user: int, act: Callable[[], object]) -> None:
    """Do something in a child that is another user."""

    def change_and_act() -> None:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
        act()

    child = multiprocessing.get_context("fork").Process(target=change_and_act)
    child.start()
    child.join()
    assert child.exitcode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to become another user")
def test_a_pod_of_any_user_can_work_and_is_read_afterwards(tmp_path: Path) -> None:
    storage = prepare(tmp_path, "mkdir $NNI_OUTPUT_DIR/model; echo x > $NNI_OUTPUT_DIR/model/weights; echo ok")
    open_way(tmp_path)
    done = run_as(65534, storage)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")
    assert (storage.output() / "model" / "weights").stat().st_mode & 0o044 == 0o044
    assert json.loads((storage.output() / "parameter.cfg").read_text())["parameters"] == {"x": 0.5}


# What a trial makes as the umask has it, and what it makes with a mode of its own.
PLAIN = "mkdir -p $NNI_OUTPUT_DIR/a/b; echo x > $NNI_OUTPUT_DIR/a/b/c"
OWN_MODES = f"umask 077; {PLAIN}; chmod 500 $NNI_OUTPUT_DIR/a/b"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to become other users")
@pytest.mark.parametrize("pod_user", [1000, 65534, 0], ids=["another user", "the same user", "root"])
@pytest.mark.parametrize(
    ("command", "code"),
    [(PLAIN, 0), (OWN_MODES, 0), (f"{OWN_MODES}; exit 3", 3), (f"{PLAIN}; kill -KILL 0", -signal.SIGKILL)],
    ids=["succeeded", "own modes", "failed", "killed"],
)
def test_a_worker_that_is_not_root_can_delete_what_pods_have_made(
    tmp_path: Path, pod_user: int, command: str, code: int
) -> None:
    open_way(tmp_path)
    tmp_path.chmod(0o777)
    folder = tmp_path / "exp"
    act_as(65534, lambda: prepare(folder, command))
    storage = Storage(AttemptFolder(folder / "trials" / "abcde" / "1"), folder / "code", tmp_path / "pods")
    assert run_as(pod_user, storage).returncode == code
    assert (storage.output() / "a" / "b" / "c").read_text() == "x\n"
    for closed in (folder, storage.folder.path, storage.folder.path / "output"):
        assert closed.stat().st_mode & 0o022 == 0
    experiment = cast("Experiment", SimpleNamespace(id="exp", folder=str(folder)))
    act_as(65534, lambda: remove_folder(experiment))
    assert not folder.exists()


def test_folders_are_open_to_pods_whatever_the_worker_s_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        storage = prepare(tmp_path, "true")
    finally:
        os.umask(before)
    for folder in (storage.output(), storage.output() / ".nni"):
        assert folder.stat().st_mode & 0o777 == 0o777
    for folder in (storage.folder.path.parent, storage.folder.path, storage.folder.path / "output"):
        assert folder.stat().st_mode & 0o777 == 0o755
    assert (storage.output() / ".nni" / "metrics").stat().st_mode & 0o666 == 0o666
    assert (storage.folder.path / "run-worker.sh").stat().st_mode & 0o044 == 0o044


def test_preparing_again_leaves_what_was_written(tmp_path: Path) -> None:
    storage = prepare(tmp_path, "echo printed")
    storage.run()
    role = Role("worker", 1, "echo printed", "image", 0, 1, 128)
    storage.folder.prepare({}, [role])
    assert (storage.output() / "stdout").read_text() == "printed\n"
    assert len(storage.folder.exits()) == 1


@pytest.mark.parametrize(
    ("printed", "bodies"),
    [
        (b"""NNISDK_MEb'{"a": 1}'\n""", ['{"a": 1}']),
        (b"""epoch 1NNISDK_MEb'{"a": 1}'epoch 2 NNISDK_MEb'{"b": 2}\\n'""", ['{"a": 1}', '{"b": 2}']),
        (b"""NNISDK_MEb'{"v": "it\\'s \\\\"5\\\\" \\xc3\\xa9"}'""", ['{"v": "it\'s \\"5\\" é"}']),
        (b"NNISDK_MEb'cut off", []),
        (b"nothing", []),
    ],
)
def test_metrics_that_were_printed_are_found(tmp_path: Path, printed: bytes, bodies: list[str]) -> None:
    storage = prepare(tmp_path, "true")
    assert storage.folder.adopt_printed_metrics("worker-0", printed) is bool(bodies)
    written = storage.folder.metrics_file("worker-0").read_bytes()
    assert written == b"".join(b"ME%06d%s\n" % (len(body.encode()) + 1, body.encode()) for body in bodies)


def test_metrics_that_were_printed_never_replace_written_ones(tmp_path: Path) -> None:
    storage = prepare(tmp_path, "true")
    storage.folder.metrics_file("worker-0").write_bytes(b"ME000003{}\n")
    assert not storage.folder.adopt_printed_metrics("worker-0", b"NNISDK_MEb'{}'")
    assert storage.folder.metrics_file("worker-0").read_bytes() == b"ME000003{}\n"
