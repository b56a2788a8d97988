"""A cluster of the tests' own, in one folder and one sandbox."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.cluster import components
from tests.cluster.api import Api
from tests.cluster.build import OPERATOR, Assets, prepare
from tests.cluster.cluster import TRIALFLOW_USER, Cluster, ClusterError, NfsShare, wait_until
from tests.cluster.images import PYTHON_IMAGE
from tests.cluster.layout import ADMIN, NFS_SERVER, NODES, Layout
from tests.cluster.sandbox import Sandbox, SandboxError, cgroup_pids, make_cgroup, remove_cgroup

_READY_TIMEOUT_SECONDS = 120.0
_OPERATOR_NAMESPACE = "kubeflow"


@dataclass(frozen=True)
class Request:
    """A request to the API server, as its audit log has it.

    Attributes:
        at: When it arrived, in seconds since the epoch.
        user: Who asked; each part of the cluster has a name of its own, as has the one who submits trials.
        resource: In the plural, with the part that was asked for: ``pods/log``.
        name: Of the object; empty for a list, a watch and a creation.
        label_selector: Which objects a list or watch was for.
        status: The HTTP status; 0 while the answer, a watch for example, goes on.
    """

    at: float
    user: str
    verb: str
    resource: str
    namespace: str
    name: str
    label_selector: str
    status: int


class OwnCluster(Cluster):
    """A cluster that tests may break.

    Order of calls: `make` or `open` → `up` → anything else → `down`.

    Its parts are ``etcd``, ``apiserver``, ``controller-manager``, ``scheduler``, ``operator``, and for each node
    ``containerd-node1``, ``dns-node1`` and ``kubelet-node1``; each has a log in ``<home>/logs``. Whatever `kill` ends,
    `start` begins again with the same data. Pods reach each other, by the names that the operator gives them too, and
    neither this machine nor any other.

    Args:
        layout: Its folder.
    """

    image = PYTHON_IMAGE

    def __init__(self, layout: Layout) -> None:
        self.home = layout.home
        self.kubeconfig = layout.kubeconfig(ADMIN)
        self._layout = layout
        self._api = Api(layout.url, layout.pki("ca.crt"), layout.tokens[ADMIN])

    @classmethod
    def make(cls, home: Path) -> OwnCluster:
        """A new cluster in a folder."""
        home.mkdir(parents=True, exist_ok=True)
        return cls(Layout.make(home.resolve()))

    @classmethod
    def open(cls, home: Path) -> OwnCluster | None:
        """The cluster that was made in a folder, running or not; ``None`` when there is none."""
        return cls(Layout.read(home)) if (home / "layout.json").exists() else None

    @cached_property
    def _assets(self) -> Assets:
        """What it is made of, built when it is first needed: to end a cluster, nothing is built."""
        return prepare()

    # ── the whole ────────────────────────────────────────────────────────────────────────────────────────────

    def up(self, *, tied: bool = False) -> None:
        """Start the control plane, the operator and one node, and wait until all are ready.

        Args:
            tied: Whether the cluster ends with the calling process, however that ends.
        """
        if os.geteuid() != 0:
            raise ClusterError("a cluster has namespaces, mounts and control groups, which only root may make; be root")
        if not self.is_running:
            programs = self._assets.programs[OPERATOR].parent
            sandbox = Sandbox.start(self.home, programs, tied=tied)
            (self.home / "sandbox.pid").write_text(str(sandbox.pid))
            try:
                self._start_parts()
            except BaseException:
                self.down()
                raise
        self.wait_ready()

    def down(self) -> None:
        """End the cluster and everything that it started; its logs stay. May be repeated."""
        with suppress(FileNotFoundError):
            self._sandbox.end()
        remove_cgroup(self._layout.name)
        nodes = [self._layout.config(f"{node}.toml") for node in NODES]
        for file in (self.home / "sandbox.pid", self.home / "sandbox.ready", *nodes):
            file.unlink(missing_ok=True)

    def remove(self) -> None:
        """End it, and remove its folder."""
        self.down()
        shutil.rmtree(self.home)

    @property
    def is_running(self) -> bool:
        """Whether it is up; single parts may have been killed."""
        with suppress(FileNotFoundError):
            return self._sandbox.is_alive
        return False

    @property
    def _sandbox(self) -> Sandbox:
        return Sandbox(self.home, int((self.home / "sandbox.pid").read_text()))

    def _start_parts(self) -> None:
        first = NODES[0]
        self.start("etcd")
        self.start("apiserver")
        with ThreadPoolExecutor(1) as pool:
            runtime = pool.submit(self._start_runtime, first)
            self._wait_for("apiserver")
            self._install_operator()
            for part in ("controller-manager", "scheduler", "operator"):
                self.start(part)
            runtime.result()
        self._start_kubelet(first)

    def _install_operator(self) -> None:
        for document in _operator_objects(self._layout, self._assets):
            self._api.create(document)

    # ── its parts ────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def nodes(self) -> list[str]:
        """The nodes that it has, lost ones too."""
        return [node for node in NODES if self._layout.config(f"{node}.toml").exists()]

    @property
    def parts(self) -> list[str]:
        """The names of its parts, in the order of starting."""
        return list(self._components())

    def _components(self) -> dict[str, components.Component]:
        found = components.control_plane(self._layout, self._assets.programs)
        for node in self.nodes:
            found += components.node(self._layout, self._assets.programs, node)
        return {component.name: component for component in found}

    def kill(self, part: str) -> None:
        """End a part with SIGKILL; returns when it is gone. Containers go on without their kubelet or containerd."""
        self._sandbox.kill(self._components()[part].name)

    def start(self, part: str) -> None:
        """Start a part, unless it runs; `wait_ready` waits until it does its work."""
        component = self._components()[part]
        if not self._sandbox.pids(part):
            self._sandbox.spawn(part, component.command, component.network)
        if part.startswith("containerd-"):
            # A kubelet that is started before it can be reached gives up.
            ctr = self._ctr(part.removeprefix("containerd-"))
            wait_until(partial(_succeeds, self._sandbox, [*ctr, "version"]), part, _READY_TIMEOUT_SECONDS)

    def wait_ready(self, timeout_seconds: float = _READY_TIMEOUT_SECONDS) -> None:
        """Wait until every part does its work and every node is ready.

        Raises:
            ClusterError: A part has ended, or is not ready in time.
        """
        for part in self.parts:
            self._wait_for(part, timeout_seconds)

    def _wait_for(self, part: str, timeout_seconds: float = _READY_TIMEOUT_SECONDS) -> None:
        log = self.home / "logs" / f"{part}.log"
        # A Deployment would start an operator again that gave up on an API server that is slow to answer.
        restarts = 3 if part == "operator" else 0

        def ready() -> bool:
            nonlocal restarts
            if self._has_ended(part):
                if restarts == 0:
                    last_words = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
                    raise ClusterError(f"{part} must run, but has ended; see {log}:\n{last_words}")
                restarts -= 1
                self.start(part)
                return False
            return self._does_its_work(part)

        wait_until(ready, f"{part} to be ready; see {log}", timeout_seconds)

    def _has_ended(self, part: str) -> bool:
        """Whether it does not run; looks twice, for a program that is being loaded has no environment yet."""
        for pause_seconds in (0.5, 0.0):
            if self._sandbox.pids(part):
                return False
            time.sleep(pause_seconds)
        return True

    def _does_its_work(self, part: str) -> bool:
        ports = self._layout.ports
        if part == "apiserver":
            return self._api.answers("/readyz")
        if part in ("controller-manager", "scheduler"):
            return self._api.answers(f"https://127.0.0.1:{ports[part]}/healthz")
        if part == "operator":
            return self._api.answers(f"http://127.0.0.1:{ports[part]}/readyz")
        if part.startswith("kubelet-"):
            return self._is_ready(part.removeprefix("kubelet-"))
        return True

    def _is_ready(self, node: str) -> bool:
        answer = self._api.get(f"/api/v1/nodes/{node}")
        if answer is None:
            return False
        found = json.loads(answer)
        conditions = {item["type"]: item["status"] for item in found["status"].get("conditions", [])}
        return conditions.get("Ready") == "True" and not found["spec"].get("taints")

    # ── its nodes ────────────────────────────────────────────────────────────────────────────────────────────

    def second_node(self) -> str:
        """Start a second node, unless the cluster has it, and wait until it is ready; gives its name."""
        first, second = NODES
        if second not in self.nodes:
            self._start_runtime(second)
            for command, network in components.links(first, second):
                self._sandbox.call(command, network)
        self.start_node(second)
        self.wait_ready()
        return second

    def lose_node(self, node: str) -> None:
        """End a node with every pod on it, at once, as a power cut does; `start_node` begins it again."""
        for part in (f"kubelet-{node}", f"dns-{node}", f"containerd-{node}"):
            self.kill(part)
        keepers = self._sandbox.pids(f"containerd-{node}", with_keepers=True)
        for number in (signal.SIGSTOP, signal.SIGKILL):  # Stopped, none sees another one die.
            for pid in [*keepers, *cgroup_pids(self._layout.cgroup(node))]:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)

    def start_node(self, node: str) -> None:
        """Start a lost node again; its pods of before are dead."""
        self.start(f"containerd-{node}")
        self._start_kubelet(node)

    def offer(self, resource: str, amount: int, node: str = NODES[0]) -> None:
        """Let a node say that it has something, ``nvidia.com/gpu`` for example; nobody looks whether it is there."""
        path = f"/status/capacity/{resource.replace('~', '~0').replace('/', '~1')}"
        self._api.patch(f"/api/v1/nodes/{node}/status", [{"op": "add", "path": path, "value": str(amount)}])

    def _start_kubelet(self, node: str) -> None:
        self.start(f"dns-{node}")
        self.start(f"kubelet-{node}")

    def _start_runtime(self, node: str) -> None:
        self._layout.write_node(node, self._assets.cni_folder)
        make_cgroup(self._layout.cgroup(node))
        sandbox = self._sandbox
        sandbox.call(["ip", "netns", "add", node])
        sandbox.call(["ip", "link", "set", "lo", "up"], node)
        self.start(f"containerd-{node}")
        for archive in self._assets.images:
            sandbox.call([*self._ctr(node), "images", "import", str(archive)])

    def _ctr(self, node: str) -> list[str]:
        """The start of a command for a node's containerd."""
        return [str(self._assets.programs["ctr"]), f"--address=/run/{node}/containerd.sock", "--namespace=k8s.io"]

    # ── what tests need besides ──────────────────────────────────────────────────────────────────────────────

    def nfs_share(self, path: str) -> NfsShare:
        """See the base class; a mount of any other server or path fails as with a real one."""
        folder = self.home / "nfs" / path.strip("/")
        folder.mkdir(parents=True, exist_ok=True)
        return NfsShare(NFS_SERVER, f"/{path.strip('/')}", folder)

    def subject(self, namespace: str) -> dict[str, str]:
        """See the base class: a user of the API server's token file."""
        return {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": TRIALFLOW_USER}

    def user_kubeconfig(self, namespace: str) -> Path:
        """See the base class."""
        file = self._layout.config(f"{TRIALFLOW_USER}-{namespace}.kubeconfig")
        self._layout.write_kubeconfig(file, TRIALFLOW_USER, namespace)
        return file

    def requests(self, since: float = 0.0, user: str | None = None) -> list[Request]:
        """The requests to the API server, oldest first, of everyone or of one user."""
        with (self.home / "logs" / "audit.jsonl").open(encoding="utf-8") as log:
            found = dict(_read_requests(log))
        return [item for item in found.values() if item.at >= since and user in (None, item.user)]


def _succeeds(sandbox: Sandbox, command: list[str]) -> bool:
    try:
        sandbox.call(command)
    except SandboxError:
        return False
    return True


def _read_requests(lines: Iterator[str]) -> Iterator[tuple[str, Request]]:
    """A watch has two lines, the first when it begins: the later one counts."""
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:  # Half a line: it is being written, or its writer was killed.
            continue
        target = event.get("objectRef", {})
        query = parse_qs(urlsplit(event["requestURI"]).query)
        ended = event["stage"] == "ResponseComplete"
        yield (
            event["auditID"],
            Request(
                at=datetime.fromisoformat(event["requestReceivedTimestamp"].replace("Z", "+00:00")).timestamp(),
                user=event["user"]["username"],
                verb=event["verb"],
                resource="/".join(target[key] for key in ("resource", "subresource") if key in target),
                namespace=target.get("namespace", ""),
                name=target.get("name", ""),
                label_selector=query.get("labelSelector", [""])[0],
                status=event["responseStatus"]["code"] if ended else 0,
            ),
        )


def _operator_objects(layout: Layout, assets: Assets) -> list[dict[str, Any]]:
    """What `kubectl apply` of the operator's manifests makes, for an operator that runs beside the cluster."""
    authority = b64encode(layout.pki("webhook-ca.crt").read_bytes()).decode()
    return [
        *assets.manifests["crds"],
        *assets.manifests["roles"],
        {"kind": "Namespace", "metadata": {"name": _OPERATOR_NAMESPACE}},
        {
            "kind": "ClusterRoleBinding",
            "metadata": {"name": OPERATOR},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": OPERATOR},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": OPERATOR}],
        },
        _webhook_secret(layout),
        {
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "validator.training-operator.kubeflow.org"},
            "webhooks": [
                {**hook, "clientConfig": _webhook_address(layout, hook, authority)}
                for hook in assets.manifests["webhooks"]
            ],
        },
    ]


def _webhook_secret(layout: Layout) -> dict[str, Any]:
    names = {"ca.crt": "webhook-ca.crt", "ca.key": "webhook-ca.key", "tls.crt": "webhook.crt", "tls.key": "webhook.key"}
    return {
        "kind": "Secret",
        "metadata": {"name": "training-operator-webhook-cert", "namespace": _OPERATOR_NAMESPACE},
        "data": {key: b64encode(layout.pki(name).read_bytes()).decode() for key, name in names.items()},
    }


def _webhook_address(layout: Layout, hook: dict[str, Any], authority: str) -> dict[str, str]:
    """No Service leads to an operator outside the cluster, so the API server is given its address."""
    path = hook["clientConfig"]["service"]["path"]
    return {"url": f"https://127.0.0.1:{layout.ports['webhook']}{path}", "caBundle": authority}
