"""That a cluster ends whole, whichever way it ends."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
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
print("up", flush=True)
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
    folders = [Path("/run"), Path("/run/netns"), Path("/var/lib"), Path("/var/log"), Path("/opt")]
    return {
        "mounts": {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()},
        "links": {path.name for path in Path("/sys/class/net").iterdir()},
        "settings": {f"{path} {path.read_text()}" for path in settings if path.exists()},
        "helpers": {str(path) for path in Path("/sbin").glob("mount.*")},
        "certificates": {str(path) for path in Path("/tmp").glob("k8s-*")},
        "folders": {str(path) for folder in folders if folder.exists() for path in folder.iterdir()},
        "packet filter": packet_filter(),
        "control groups": {str(path) for path in Path("/sys/fs/cgroup").glob("*/*/")},
    }


def packet_filter() -> set[str]:
    if not shutil.which("iptables-save"):
        return set()
    rules = subprocess.run(["iptables-save"], capture_output=True, text=True, check=True).stdout.splitlines()
    return {rule for rule in rules if rule.startswith("-")} | {rule.split()[0] for rule in rules if rule[:1] == ":"}


def living(cluster: OwnCluster) -> set[psutil.Process]:
    """The processes of a cluster, containers too."""
    ancestor = psutil.Process(int((cluster.home / "sandbox.pid").read_text()))
    return {ancestor, *ancestor.children(recursive=True)}


def still_there(processes: set[psutil.Process]) -> set[psutil.Process]:
    """Those that run; a later process of the same number is another one."""
    return {process for process in processes if process.is_running()}


def run_something(cluster: OwnCluster) -> None:
    """Have a pod with a network and an NFS mount, so that there is something to leave."""
    share = cluster.nfs_share("/data")
    volume = {"name": "data", "nfs": {"server": share.server, "path": share.path}}
    spec = pod_spec(cluster, "sleep", "300", volumes=[volume])
    spec["containers"][0]["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    with cluster.client() as client:
        core = CoreV1Api(client)
        namespace = cluster.make_namespace()
        name = make_pod(core, namespace, spec)

        def runs() -> bool:
            return bool(core.read_namespaced_pod(name, namespace).status.phase == "Running")

        wait_until(runs, "the pod to run", PATIENCE_SECONDS)


def test_a_cluster_that_is_ended_leaves_nothing_on_the_machine(home: Path) -> None:
    before = machine()
    cluster = OwnCluster.make(home)
    cluster.up()
    run_something(cluster)
    processes = living(cluster)
    assert len(processes) >= len(cluster.parts) + len(["unshare", "holder", "shim", "pause", "sleep"])
    assert machine()["control groups"] > before["control groups"]

    cluster.down()

    assert still_there(processes) == set()
    after = machine()
    assert {kind: after[kind] - before[kind] for kind in after} == {kind: set() for kind in after}
    assert not cluster.is_running
    cluster.down()


def test_a_cluster_ends_with_the_process_that_keeps_it(home: Path) -> None:
    command = [sys.executable, "-c", KEEPER, str(home)]
    with subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True) as keeper:
        try:
            assert keeper.stdout
            assert keeper.stdout.readline() == "up\n"
            cluster = OwnCluster.open(home)
            assert cluster
            run_something(cluster)
            processes = living(cluster)
        finally:
            keeper.send_signal(signal.SIGKILL)

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
