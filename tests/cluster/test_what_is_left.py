"""That a cluster ends whole, whichever way it ends."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes.client import CoreV1Api

from tests.cluster.cluster import wait_until
from tests.cluster.holder import SYSCTLS
from tests.cluster.own import OwnCluster
from tests.cluster.workloads import PATIENCE_SECONDS, make_pod, pod_spec

CHECKOUT = Path(__file__).resolve().parents[2]
# A program that starts a cluster and waits until somebody kills it.
KEEPER = """
import sys, time
from pathlib import Path
from tests.cluster.own import OwnCluster
OwnCluster.make(Path(sys.argv[1])).up(tied=True)
time.sleep(600)
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    home = tmp_path / "cluster"
    yield home
    cluster = OwnCluster.open(home)
    if cluster:
        cluster.remove()


def machine() -> dict[str, set[str]]:
    """What a cluster could leave on a machine, besides processes."""
    settings = (Path("/proc/sys") / name for name in (*SYSCTLS, "net/ipv4/ip_forward"))
    folders = [Path("/run"), Path("/run/netns"), Path("/var/lib"), Path("/var/log"), Path("/tmp"), Path("/opt")]
    rules = subprocess.run(["iptables-save"], capture_output=True, text=True) if shutil.which("iptables-save") else None
    return {
        "mounts": {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()},
        "links": set(os.listdir("/sys/class/net")),
        "settings": {f"{path} {path.read_text()}" for path in settings if path.exists()},
        "helpers": {str(path) for path in Path("/sbin").glob("mount.*")},
        "folders": {str(path) for folder in folders if folder.exists() for path in folder.iterdir()},
        "rules": {line for line in rules.stdout.splitlines() if line[:1] in "-:"} if rules else set(),
        "control groups": {str(path) for path in Path("/sys/fs/cgroup").glob("**/trialflow-*/")},
    }


def living(cluster: OwnCluster) -> set[str]:
    """The processes of a cluster's process namespace, containers too, each with the time of its start."""
    space = Path(f"/proc/{(cluster.home / 'sandbox.pid').read_text()}/ns/pid_for_children").readlink()
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "ns" / "pid").readlink() == space:
                found.add(_identity(entry))
        except OSError:
            continue
    return found


def _identity(entry: Path) -> str:
    return f"{entry.name} {(entry / 'stat').read_text().rpartition(')')[2].split()[19]}"


def still_there(processes: set[str]) -> set[str]:
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and _identity(entry) in processes:
                found.add(_identity(entry))
        except OSError:
            continue
    return found


def run_something(cluster: OwnCluster) -> None:
    """Have a pod with a network and an NFS mount, so that there is something to leave."""
    share = cluster.nfs_share("/data")
    spec = pod_spec(cluster, "sleep", "300", volumes=[{"name": "data", "nfs": _nfs(share.server, share.path)}])
    spec["containers"][0]["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    with cluster.client() as client:
        core = CoreV1Api(client)
        namespace = cluster.make_namespace()
        name = make_pod(core, namespace, spec)
        running = lambda: core.read_namespaced_pod(name, namespace).status.phase == "Running"  # noqa: E731
        wait_until(running, "the pod to run", PATIENCE_SECONDS)


def _nfs(server: str, path: str) -> dict[str, str]:
    return {"server": server, "path": path}


def test_a_cluster_that_is_ended_leaves_nothing_on_the_machine(home: Path) -> None:
    before = machine()
    cluster = OwnCluster.make(home)
    cluster.up()
    run_something(cluster)
    processes = living(cluster)
    assert len(processes) > 10
    assert machine()["control groups"] > before["control groups"]

    cluster.down()

    assert still_there(processes) == set()
    after = machine()
    assert {kind: after[kind] - before[kind] for kind in after} == {kind: set() for kind in after}
    assert not cluster.is_running
    cluster.down()


def test_a_cluster_ends_with_the_process_that_keeps_it(home: Path) -> None:
    keeper = subprocess.Popen([sys.executable, "-c", KEEPER, str(home)], cwd=CHECKOUT)
    try:
        wait_until(lambda: (home / "sandbox.pid").exists(), "the sandbox", PATIENCE_SECONDS)
        cluster = OwnCluster.open(home)
        assert cluster
        cluster.up()
        run_something(cluster)
        processes = living(cluster)
    finally:
        keeper.send_signal(signal.SIGKILL)
        keeper.wait()

    wait_until(lambda: not still_there(processes), "the cluster to end", PATIENCE_SECONDS)
    assert not cluster.is_running


def test_a_cluster_can_be_started_again_after_its_end(home: Path) -> None:
    cluster = OwnCluster.make(home)
    cluster.up()
    cluster.down()
    cluster.up()
    cluster.up()
    assert cluster.is_running
    cluster.down()
