"""What a role's ``podTemplate`` may not ask for, unless the operator of the installation allows it.

By default pods stay within the baseline of Kubernetes' Pod Security Standards, and see of the storage what Trialflow
shows them. The source is https://kubernetes.io/docs/concepts/security/pod-security-standards/.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Any

from trialflow.messages import show
from trialflow.training.kubeflow.manifest import POD_ROOT, WHOLE_STORAGE
from trialflow.training.kubeflow.overlay import STORAGE_VOLUME, WORK_VOLUME

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trialflow.messages import Problem, ProblemMaker
    from trialflow.records import JsonObject

    _Breach = tuple[tuple[str, ...], str, Any]

_CONTAINERS = ("containers", "initContainers", "ephemeralContainers")
_HOST_NAMESPACES = ("hostNetwork", "hostPID", "hostIPC")
_ACCOUNTS = ("serviceAccountName", "serviceAccount", "automountServiceAccountToken")
_CAPABILITIES = frozenset({
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP",
    "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
})  # fmt: skip
_SYSCTLS = frozenset({
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
})  # fmt: skip
_SELINUX_TYPES = ("", "container_t", "container_init_t", "container_kvm_t", "container_engine_t")
_REMEDY = "Remove it, or have the operator set TRIALFLOW_POD_POLICY=any"


def find_breaches(template: JsonObject, path: tuple[str, ...], problem_at: ProblemMaker) -> list[Problem]:
    """Everything in a template that the policy forbids; its lists are lists of mappings.

    Args:
        template: With the key ``spec``.
        path: The template's field in the experiment file.
        problem_at: Makes a problem with a field of the experiment file.
    """
    spec = _mapping(template.get("spec"))
    return [
        problem_at((*path, "spec", *field), rule, show(value), _REMEDY) for field, rule, value in _breaches_of(spec)
    ]


def _breaches_of(spec: JsonObject) -> Iterator[_Breach]:
    for key in _HOST_NAMESPACES:
        if spec.get(key):
            yield (key,), "would give the pod a namespace of its node", spec[key]
    for key in _ACCOUNTS:
        if key in spec:
            yield (key,), "is set by kubeflowConfig.serviceAccountName alone", spec[key]
    for index, volume in _items(spec, "volumes"):
        if "hostPath" in volume:
            yield ("volumes", index, "hostPath"), "would show the pod a folder of its node", volume["hostPath"]
    yield from _security_breaches(spec, ())
    yield from _sysctl_breaches(_mapping(spec.get("securityContext")))
    for kind in _CONTAINERS:
        for index, container in _items(spec, kind):
            yield from _container_breaches(container, (kind, index))


def _sysctl_breaches(security: JsonObject) -> Iterator[_Breach]:
    for index, sysctl in _items(security, "sysctls"):
        if sysctl.get("name") not in _SYSCTLS:
            field = ("securityContext", "sysctls", index)
            yield field, "is no sysctl that the baseline of Pod Security allows", sysctl.get("name")


def _container_breaches(container: JsonObject, path: tuple[str, ...]) -> Iterator[_Breach]:
    yield from _security_breaches(container, path)
    security = _mapping(container.get("securityContext"))
    if security.get("privileged"):
        yield (*path, "securityContext", "privileged"), "would make the container root of its node", True
    if security.get("procMount", "Default") != "Default":
        yield (*path, "securityContext", "procMount"), "must be Default", security["procMount"]
    added = _mapping(security.get("capabilities")).get("add")
    forbidden = [name for name in added if name not in _CAPABILITIES] if isinstance(added, list) else []
    if forbidden:
        field = (*path, "securityContext", "capabilities", "add")
        yield field, "has capabilities that the baseline of Pod Security does not allow", forbidden
    for index, port in _items(container, "ports"):
        if port.get("hostPort"):
            yield (*path, "ports", index, "hostPort"), "would open a port of the node", port["hostPort"]
    for index, mount in _items(container, "volumeMounts"):
        if mount.get("name") in (STORAGE_VOLUME, WORK_VOLUME) or _is_ours(mount.get("mountPath")):
            rule = "is a mount of Trialflow's own, which shows the trial what it may see and change"
            yield (*path, "volumeMounts", index), rule, mount


def _security_breaches(owner: JsonObject, path: tuple[str, ...]) -> Iterator[_Breach]:
    """Of the security context that pods and containers both have."""
    security = _mapping(owner.get("securityContext"))
    for key in ("seccompProfile", "appArmorProfile"):
        if _mapping(security.get(key)).get("type") == "Unconfined":
            yield (*path, "securityContext", key), "must confine the container", "Unconfined"
    if _mapping(security.get("windowsOptions")).get("hostProcess"):
        yield (*path, "securityContext", "windowsOptions"), "would run the container on its node", True
    options = _mapping(security.get("seLinuxOptions"))
    if options.get("user") or options.get("role") or options.get("type", "") not in _SELINUX_TYPES:
        rule = "must leave user and role, and take a container's type"
        yield (*path, "securityContext", "seLinuxOptions"), rule, options


def _items(owner: JsonObject, key: str) -> Iterator[tuple[str, JsonObject]]:
    found = owner.get(key)
    for index, item in enumerate(found if isinstance(found, list) else []):
        if isinstance(item, dict):
            yield str(index), item


def _is_ours(mount_path: Any) -> bool:
    path = posixpath.normpath("/" + mount_path.lstrip("/")) if isinstance(mount_path, str) else ""
    return any(path == ours or path.startswith(f"{ours}/") for ours in (POD_ROOT, WHOLE_STORAGE))


def _mapping(value: Any) -> JsonObject:
    return value if isinstance(value, dict) else {}
