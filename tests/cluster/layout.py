"""One cluster's folder: which ports and names it has, and the files that its components read."""

from __future__ import annotations

import json
import random
import secrets
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.cluster import TRIALFLOW_USER
from tests.cluster.images import PAUSE_IMAGE
from tests.cluster.pki import Authority, signing_key, write_secret

NODES = ("node1", "node2")
ADMIN = "admin"
DNS_USER = "cluster-dns"
# user name → groups; each part has a name of its own, so that the audit log tells who asked
USERS: Mapping[str, str] = {
    ADMIN: "system:masters",
    TRIALFLOW_USER: "",
    "system:kube-controller-manager": "system:masters",
    "system:kube-scheduler": "",
    "training-operator": "",
    DNS_USER: "system:masters",
    **{f"system:node:{node}": "system:nodes" for node in NODES},
}
_PORTS = ("etcd", "etcd-peer", "apiserver", "controller-manager", "scheduler", "operator", "webhook", *NODES)
POD_NETWORK = "10.88.0.0/16"
NFS_SERVER = "nfs.trialflow.test"
_AUDIT_POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata}]
"""
# mount(8) calls it for every NFS mount in the sandbox. The kernel of a small machine has no NFS client, so it shows the
# server's folder itself: all before it (manifest, scheduler, the kubelet's volume plugin) is real.
_MOUNT_NFS = """\
#!/bin/sh
spec=$1 folder=$2
shift 2
options=
while getopts sfnvN:o:t: option; do
    [ "$option" = o ] && options=$OPTARG
done
if [ "${spec%%:*}" != SERVER ]; then
    echo "mount.nfs: Failed to resolve server ${spec%%:*}: Name or service not known" >&2
    exit 32
fi
if [ ! -d "EXPORTS/${spec#*:}" ]; then
    echo "mount.nfs: mounting $spec failed, reason given by server: No such file or directory" >&2
    exit 32
fi
mount --bind "EXPORTS/${spec#*:}" "$folder" || exit 32
case ",$options," in *,ro,*) mount -o remount,bind,ro "$folder" ;; esac
"""


@dataclass(frozen=True)
class Layout:
    """Names and places.

    Args:
        home: The cluster's folder.
        name: Unlike any other cluster's on this machine; the name of its control group too.
        ports: What listens where on 127.0.0.1.
        tokens: User → token.
    """

    home: Path
    name: str
    ports: dict[str, int]
    tokens: dict[str, str]

    @classmethod
    def make(cls, home: Path) -> Layout:
        """Write everything that the components of a new cluster read."""
        tokens = {user: secrets.token_urlsafe(24) for user in USERS}
        layout = cls(home, f"trialflow-{secrets.token_hex(4)}", _free_ports(_PORTS), tokens)
        for folder in ("config", "pki", "logs", "nfs"):
            (home / folder).mkdir(parents=True, exist_ok=True)
        home.chmod(0o700)
        layout._write_pki()
        layout._write_config()
        for user in USERS:
            layout.write_kubeconfig(layout.kubeconfig(user), user)
        state = {**asdict(layout), "home": str(home)}
        write_secret(home / "layout.json", json.dumps(state).encode())
        return layout

    @classmethod
    def read(cls, home: Path) -> Layout:
        """The layout that an earlier process has made."""
        state = json.loads((home / "layout.json").read_bytes())
        return cls(Path(state["home"]), state["name"], state["ports"], state["tokens"])

    @property
    def url(self) -> str:
        """Of the API server."""
        return f"https://127.0.0.1:{self.ports['apiserver']}"

    def config(self, name: str) -> Path:
        """A component's own file."""
        return self.home / "config" / name

    def pki(self, name: str) -> Path:
        """A certificate or key."""
        return self.home / "pki" / name

    def kubeconfig(self, user: str) -> Path:
        """How a user reaches the API server."""
        return self.home / "config" / f"{user.replace(':', '-')}.kubeconfig"

    def write_kubeconfig(self, file: Path, user: str, namespace: str = "default") -> None:
        """Write a kubeconfig for a user, to work in a namespace."""
        authority = self.pki("ca.crt").read_bytes()
        content = kubeconfig(self.url, authority, self.tokens[user], namespace)
        write_secret(file, yaml.safe_dump(content).encode())

    def cgroup(self, node: str) -> str:
        """The control group below which a node's containers are."""
        return f"{self.name}/{node}"

    def _write_pki(self) -> None:
        authority = Authority("trialflow-test-ca")
        authority.pair.write(self.home / "pki", "ca")
        hosts = ["127.0.0.1", "localhost", "kubernetes.default.svc", *NODES]
        authority.issue("server", hosts).write(self.home / "pki", "server")
        authority.issue("kube-apiserver", organization="system:masters").write(self.home / "pki", "client")
        keys = signing_key()
        self.pki("sa.pub").write_bytes(keys.certificate)
        write_secret(self.pki("sa.key"), keys.key)
        # The operator takes certificates that it finds, if their names are those that it would have given itself.
        webhook = Authority("training-operator-ca")
        webhook.pair.write(self.home / "pki", "webhook-ca")
        hosts = ["training-operator.kubeflow.svc", "127.0.0.1"]
        webhook.issue("training-operator.kubeflow.svc", hosts).write(self.home / "pki", "webhook")

    def _write_config(self) -> None:
        rows = [f'{self.tokens[user]},{user},{user},"{groups}"\n' for user, groups in USERS.items()]
        write_secret(self.config("tokens.csv"), "".join(rows).encode())
        self.config("audit-policy.yaml").write_text(_AUDIT_POLICY)
        hosts = "".join(f"127.0.0.1 {name}\n" for name in ("localhost", *NODES))
        self.config("hosts").write_text(hosts)
        self.config("resolv.conf").write_text("")
        dns = {"server": self.url, "authority": self.pki("ca.crt").read_text(), "token": self.tokens[DNS_USER]}
        write_secret(self.config("dns.json"), json.dumps(dns).encode())
        script = _MOUNT_NFS.replace("SERVER", NFS_SERVER).replace("EXPORTS", str(self.home / "nfs"))
        self.config("mount.nfs").write_text(script)

    def write_node(self, node: str, cni_folder: Path) -> None:
        """Write what a node's kubelet, containerd and network read."""
        self.config(f"{node}.toml").write_text(_containerd_config(node, self.config(f"{node}-cni"), cni_folder))
        self.config(f"{node}-cni").mkdir(exist_ok=True)
        network = json.dumps(_network(node))
        (self.config(f"{node}-cni") / "pods.conflist").write_text(network)
        self.config(f"{node}.yaml").write_text(yaml.safe_dump(self._kubelet_config(node)))

    def _kubelet_config(self, node: str) -> dict[str, Any]:
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": "127.0.0.1",
            "port": self.ports[node],
            "healthzPort": 0,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": False},
                "x509": {"clientCAFile": str(self.pki("ca.crt"))},
            },
            "authorization": {"mode": "AlwaysAllow"},
            "tlsCertFile": str(self.pki("server.crt")),
            "tlsPrivateKeyFile": str(self.pki("server.key")),
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self.cgroup(node)}",
            "enforceNodeAllocatable": [],
            "failSwapOn": False,
            # The machine's disk and memory are not the cluster's: a full disk must neither evict nor delete images.
            "evictionHard": {},
            "imageGCHighThresholdPercent": 100,
            "localStorageCapacityIsolation": False,
            "containerRuntimeEndpoint": f"unix:///run/{node}/containerd.sock",
            # The bridge's own address, where the node's name server listens.
            "clusterDNS": [f"{subnet(node)}.1"],
            "clusterDomain": "cluster.local",
            "resolvConf": str(self.config("resolv.conf")),
            "podLogsDir": f"/run/{node}/pod-logs",
            "volumePluginDir": f"/run/{node}/volume-plugins",
            # Nothing of ours in the machine's packet filter: there are no Services to forward.
            "makeIPTablesUtilChains": False,
            # A node that is lost is noticed within seconds.
            "nodeStatusUpdateFrequency": "2s",
            "nodeLeaseDurationSeconds": 8,
        }


def kubeconfig(url: str, authority: bytes, token: str, namespace: str) -> dict[str, Any]:
    """The content of a kubeconfig with one cluster and one user."""
    from base64 import b64encode

    cluster = {"server": url, "certificate-authority-data": b64encode(authority).decode()}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "trialflow",
        "clusters": [{"name": "trialflow", "cluster": cluster}],
        "users": [{"name": "trialflow", "user": {"token": token}}],
        "contexts": [
            {"name": "trialflow", "context": {"cluster": "trialflow", "user": "trialflow", "namespace": namespace}}
        ],
    }


def subnet(node: str) -> str:
    """The first three numbers of the addresses of a node's pods."""
    return f"10.88.{NODES.index(node) + 1}"


def _network(node: str) -> dict[str, Any]:
    """A bridge in the node's own network namespace; pods reach each other and nothing else."""
    addresses = {
        "type": "host-local",
        "ranges": [[{"subnet": f"{subnet(node)}.0/24"}]],
        "routes": [{"dst": POD_NETWORK}],
        "dataDir": f"/run/{node}/addresses",
    }
    bridge = {"type": "bridge", "bridge": "pods", "isGateway": True, "ipMasq": False, "ipam": addresses}
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge]}


def _containerd_config(node: str, network_folder: Path, cni_folder: Path) -> str:
    # restrict_oom_score_adj: without CAP_SYS_RESOURCE a container cannot lower its score, and would not start.
    # disable_apparmor: a profile would stay loaded in the kernel.
    return f"""\
version = 2
root = "/run/{node}/containerd"
state = "/run/{node}/containerd-state"
[grpc]
address = "/run/{node}/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
path = "/run/{node}/opt"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE_IMAGE}"
restrict_oom_score_adj = true
disable_apparmor = true
tolerate_missing_hugetlb_controller = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{cni_folder}"
conf_dir = "{network_folder}"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"""


def _free_ports(names: Sequence[str]) -> dict[str, int]:
    """Ports that nobody listens on, below those that the kernel gives to outgoing connections.

    A component that was killed must find its port free when it is started again.
    """
    found: dict[int, str] = {}
    while len(found) < len(names):
        port = random.randrange(20000, 32000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.setdefault(port, names[len(found)])
    return {name: port for port, name in found.items()}
