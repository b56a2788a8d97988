"""The programs that make up a cluster, with their flags."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.build import OPERATOR
from tests.cluster.images import PYTHON_IMAGE
from tests.cluster.layout import Layout, subnet

_DNS = Path(__file__).with_name("dns.py")
# The operator reads its webhook's certificate from a fixed path below /tmp, which here only the operator sees.
_OPERATOR_SCRIPT = """
mount -t tmpfs tmpfs /tmp
mkdir -p /tmp/k8s-webhook-server/serving-certs
for part in crt key; do cp /run/home/pki/webhook.$part /tmp/k8s-webhook-server/serving-certs/tls.$part; done
cp /run/home/pki/webhook-ca.crt /tmp/k8s-webhook-server/serving-certs/ca.crt
exec "$@"
"""


@dataclass(frozen=True)
class Component:
    """A program to run.

    Attributes:
        network: The network namespace that it runs in; the machine's own when empty.
    """

    name: str
    command: tuple[str, ...]
    network: str = ""


def control_plane(layout: Layout, programs: dict[str, Path]) -> list[Component]:
    """Everything but the nodes, in the order of starting."""
    commands = {
        "etcd": _etcd(layout),
        "apiserver": _apiserver(layout),
        "controller-manager": _controller_manager(layout),
        "scheduler": _scheduler(layout),
    }
    files = {"etcd": "etcd", **{name: f"kube-{name}" for name in commands if name != "etcd"}}
    components = [Component(name, (str(programs[files[name]]), *flags)) for name, flags in commands.items()]
    operator = ("unshare", "--mount", "sh", "-ec", _OPERATOR_SCRIPT, "sh", f"/run/programs/{OPERATOR}")
    return [*components, Component("operator", (*operator, *_operator(layout)))]


def node(layout: Layout, programs: dict[str, Path], name: str) -> list[Component]:
    """The components of one node, in the order of starting."""
    containerd = (str(programs["containerd"]), "--config", str(layout.config(f"{name}.toml")))
    kubelet = (
        str(programs["kubelet"]),
        f"--config={layout.config(f'{name}.yaml')}",
        f"--kubeconfig={layout.kubeconfig(f'system:node:{name}')}",
        f"--hostname-override={name}",
        f"--root-dir=/run/{name}/kubelet",
        f"--cert-dir=/run/{name}/kubelet-pki",
    )
    # Network plugins work where containerd runs, so bridges and addresses stay in the node's namespace.
    dns = (sys.executable, "-I", str(_DNS), f"/run/netns/{name}", str(layout.config("dns.json")))
    return [
        Component(f"containerd-{name}", containerd, network=name),
        Component(f"dns-{name}", dns),
        Component(f"kubelet-{name}", kubelet),
    ]


def links(one: str, other: str) -> list[tuple[list[str], str]]:
    """The commands that join two nodes' networks, each with the network namespace in which it runs."""
    pair = ["ip", "link", "add", f"to-{other}", "type", "veth", "peer", "name", f"to-{one}", "netns", other]
    commands = [(pair, one)]
    ends = {one: "10.89.0.1", other: "10.89.0.2"}
    for here, there in ((one, other), (other, one)):
        commands += [
            (["ip", "address", "add", f"{ends[here]}/24", "dev", f"to-{there}"], here),
            (["ip", "link", "set", f"to-{there}", "up"], here),
            (["ip", "route", "add", f"{subnet(there)}.0/24", "via", ends[there]], here),
            (["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"], here),
        ]
    return commands


def _etcd(layout: Layout) -> list[str]:
    client, peer = (f"https://127.0.0.1:{layout.ports[name]}" for name in ("etcd", "etcd-peer"))
    return [
        "--data-dir=/run/etcd",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        *_tls(layout, "cert-file", "key-file", "trusted-ca-file"),
        *_tls(layout, "peer-cert-file", "peer-key-file", "peer-trusted-ca-file"),
        "--client-cert-auth",
        "--peer-client-cert-auth",
    ]


def _apiserver(layout: Layout) -> list[str]:
    return [
        "--bind-address=127.0.0.1",
        f"--secure-port={layout.ports['apiserver']}",
        "--advertise-address=127.0.0.1",
        "--endpoint-reconciler-type=none",
        f"--etcd-servers=https://127.0.0.1:{layout.ports['etcd']}",
        f"--etcd-cafile={layout.pki('ca.crt')}",
        f"--etcd-certfile={layout.pki('client.crt')}",
        f"--etcd-keyfile={layout.pki('client.key')}",
        *_tls(layout, "tls-cert-file", "tls-private-key-file", "client-ca-file"),
        f"--kubelet-client-certificate={layout.pki('client.crt')}",
        f"--kubelet-client-key={layout.pki('client.key')}",
        # The node's address is the machine's, where the kubelet does not listen.
        "--kubelet-preferred-address-types=Hostname",
        f"--token-auth-file={layout.config('tokens.csv')}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--service-cluster-ip-range=10.96.0.0/24",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={layout.pki('sa.pub')}",
        f"--service-account-signing-key-file={layout.pki('sa.key')}",
        f"--audit-log-path={layout.home / 'logs' / 'audit.jsonl'}",
        f"--audit-policy-file={layout.config('audit-policy.yaml')}",
        # The pods of a lost node are replaced after seconds, not minutes.
        "--default-not-ready-toleration-seconds=5",
        "--default-unreachable-toleration-seconds=5",
    ]


def _controller_manager(layout: Layout) -> list[str]:
    return [
        *_serving(layout, "controller-manager"),
        f"--service-account-private-key-file={layout.pki('sa.key')}",
        f"--root-ca-file={layout.pki('ca.crt')}",
        "--node-monitor-period=2s",
        "--node-monitor-grace-period=20s",
    ]


def _scheduler(layout: Layout) -> list[str]:
    return _serving(layout, "scheduler")


def _serving(layout: Layout, name: str) -> list[str]:
    return [
        f"--kubeconfig={layout.kubeconfig(f'system:kube-{name}')}",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        f"--secure-port={layout.ports[name]}",
        f"--tls-cert-file={layout.pki('server.crt')}",
        f"--tls-private-key-file={layout.pki('server.key')}",
    ]


def _operator(layout: Layout) -> list[str]:
    return [
        f"--kubeconfig=/run/home/config/{layout.kubeconfig('training-operator').name}",
        "--enable-scheme=tfjob",
        "--enable-scheme=pytorchjob",
        "--metrics-bind-address=0",
        f"--health-probe-bind-address=127.0.0.1:{layout.ports['operator']}",
        f"--webhook-server-port={layout.ports['webhook']}",
        f"--pytorch-init-container-image={PYTHON_IMAGE}",
    ]


def _tls(layout: Layout, certificate: str, key: str, authority: str) -> list[str]:
    return [
        f"--{certificate}={layout.pki('server.crt')}",
        f"--{key}={layout.pki('server.key')}",
        f"--{authority}={layout.pki('ca.crt')}",
    ]
