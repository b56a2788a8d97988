"""That pods mount the shared storage with the manifest of a real NFS volume."""

from __future__ import annotations

from secrets import token_hex
from typing import Any

import pytest
from kubernetes.client import CoreV1Api

from tests.cluster.cluster import Cluster, NfsShare, wait_until
from tests.cluster.workloads import PATIENCE_SECONDS, make_pod, pod_spec, run_pod


@pytest.fixture
def share(cluster: Cluster) -> NfsShare:
    share = cluster.nfs_share(f"/data/{token_hex(3)}")
    for name in ("code", "trial"):
        (share.folder / name).mkdir()
    (share.folder / "code" / "trial.py").write_text("print('staged')")
    (share.folder / "trial").chmod(0o777)
    return share


def storage_spec(cluster: Cluster, share: NfsShare, command: str, **volume: Any) -> dict[str, Any]:
    """A pod that is not root, with the code to read and its own folder to write, both from one NFS volume."""
    spec = pod_spec(cluster, "sh", "-c", command)
    spec["securityContext"] = {"runAsNonRoot": True, "runAsUser": 1000, "runAsGroup": 1000}
    spec["volumes"] = [{"name": "storage", "nfs": {"server": share.server, "path": share.path, **volume}}]
    container = spec["containers"][0]
    container["volumeMounts"] = [
        {"name": "storage", "mountPath": "/code", "subPath": "code", "readOnly": True},
        {"name": "storage", "mountPath": "/trial", "subPath": "trial"},
    ]
    container["securityContext"] = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    return spec


def test_a_pod_without_root_reads_code_and_writes_its_folder(
    cluster: Cluster, core: CoreV1Api, namespace: str, share: NfsShare
) -> None:
    (share.folder / "code").chmod(0o777)  # So that the refusal is the mount's.
    command = "id -u; python3 /code/trial.py; echo 0.9 > /trial/metrics; touch /code/x 2>&1 || echo refused"
    phase, output = run_pod(core, namespace, storage_spec(cluster, share, command))
    assert phase == "Succeeded"
    number, printed, complaint, refused = output.splitlines()
    assert (number, printed, refused) == ("1000", "staged", "refused")
    assert "Read-only file system" in complaint
    assert (share.folder / "trial" / "metrics").read_text() == "0.9\n"
    assert (share.folder / "trial" / "metrics").stat().st_uid == 1000


def test_a_volume_that_is_read_only_refuses_writes_everywhere(
    cluster: Cluster, core: CoreV1Api, namespace: str, share: NfsShare
) -> None:
    spec = storage_spec(cluster, share, "touch /trial/x 2>&1", readOnly=True)
    phase, output = run_pod(core, namespace, spec)
    assert phase == "Failed"
    assert "Read-only file system" in output


@pytest.mark.parametrize(
    ("change", "complaint"),
    [({"server": "nobody.test"}, "Failed to resolve server nobody.test"), ({"path": "/not/there"}, "No such file")],
)
def test_a_pod_waits_with_a_reason_when_its_storage_cannot_be_mounted(
    cluster: Cluster, core: CoreV1Api, namespace: str, share: NfsShare, change: dict[str, str], complaint: str
) -> None:
    name = make_pod(core, namespace, storage_spec(cluster, share, "true", **change))

    def messages() -> list[str]:
        events = core.list_namespaced_event(namespace, field_selector=f"involvedObject.name={name}").items
        return [event.message for event in events if event.reason == "FailedMount"]

    assert complaint in wait_until(messages, "the mount to fail", PATIENCE_SECONDS)[0]
    core.delete_namespaced_pod(name, namespace)
