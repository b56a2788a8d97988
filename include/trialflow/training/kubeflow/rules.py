"""What NNI lets through in a kubeflow experiment although it cannot work; found without asking the cluster."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from trialflow.messages import show
from trialflow.training.kubeflow.names import DNS_LABEL, DNS_SUBDOMAIN
from trialflow.training.kubeflow.overlay import check_template
from trialflow.training.kubeflow.pod_policy import find_breaches

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trialflow.messages import Problem, ProblemMaker
    from trialflow.settings import Settings
    from trialflow.training.kubeflow.section import ClusterConfig, KubeflowSection, NfsExport, Operator, Role

API_VERSIONS = ("v1alpha2", "v1beta1", "v1beta2", "v1")
_CONFIG = ("kubeflowConfig",)
# A host's name, or an address of either version.
_SERVER = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?|\[?[0-9A-Fa-f:.]+(%[A-Za-z0-9]+)?\]?")


def check_section(section: KubeflowSection, problem_at: ProblemMaker, settings: Settings) -> list[Problem]:
    """Everything that is wrong with a section whose keys and types are right, or not allowed here."""
    config = section.config
    problems = [*_check_version(config, problem_at), *_check_names(config, problem_at)]
    problems += _check_storage(config, problem_at)
    problems += _check_roles(section, problem_at)
    for role in section.roles:
        if role.name in section.operator.replica_types:
            problems += _check_role(role, section.operator, problem_at)
    return problems + _check_allowed(section, problem_at, settings)


def _check_allowed(section: KubeflowSection, problem_at: ProblemMaker, settings: Settings) -> list[Problem]:
    """What the operator of the installation does not allow."""
    config, problems = section.config, []
    for key, name, allowed in (
        ("namespace", config.namespace, settings.namespaces),
        ("serviceAccountName", config.service_account, settings.service_accounts),
    ):
        if name is not None and allowed and name not in allowed:
            rule, remedy = "is not allowed by this installation", f"Use one of: {', '.join(allowed)}"
            problems.append(problem_at((*_CONFIG, key), rule, show(name), remedy))
    for role in section.roles if settings.pod_policy == "baseline" else ():
        problems += find_breaches(role.pod_template or {}, ("trial", role.name, "podTemplate"), problem_at)
    return problems


def _check_version(config: ClusterConfig, problem_at: ProblemMaker) -> Iterator[Problem]:
    if config.api_version not in API_VERSIONS:
        rule = f"must be one of {', '.join(API_VERSIONS)}"
        remedy = "Write v1; what the cluster serves is found out"
        yield problem_at((*_CONFIG, "apiVersion"), rule, show(config.api_version), remedy)


def _check_names(config: ClusterConfig, problem_at: ProblemMaker) -> Iterator[Problem]:
    named: list[tuple[tuple[str, ...], Any, re.Pattern[str], str]] = [
        (("namespace",), config.namespace, DNS_LABEL, "63"),
        (("serviceAccountName",), config.service_account, DNS_SUBDOMAIN, "253"),
        (("pvc", "claim"), config.pvc and config.pvc.claim, DNS_SUBDOMAIN, "253"),
    ]
    for path, name, pattern, length in named:
        if name is not None and not pattern.fullmatch(name):
            rule = f"must be a name as Kubernetes has them: at most {length} lower-case letters, digits and hyphens"
            yield problem_at((*_CONFIG, *path), rule, show(name), "Correct the name")


def _check_storage(config: ClusterConfig, problem_at: ProblemMaker) -> Iterator[Problem]:
    storage = config.storage
    if storage == "azureStorage":
        remedy = "Use storage nfs or pvc; a claim may lie on an Azure file share"
        yield problem_at((*_CONFIG, "storage"), "is understood, but not built yet", storage, remedy)
    elif getattr(config, storage) is None:
        yield problem_at((*_CONFIG, storage), f"is required with storage {storage}", None, "Add it")
    elif config.nfs is not None and storage == "nfs":
        yield from _check_export(config.nfs, problem_at)
    elif config.pvc is not None:
        path = config.pvc.path or ""
        if ".." in PurePosixPath(path).parts:
            rule, remedy = "must stay inside the claim", "Write it without '..'"
            yield problem_at((*_CONFIG, "pvc", "path"), rule, show(path), remedy)


def _check_export(nfs: NfsExport, problem_at: ProblemMaker) -> Iterator[Problem]:
    path = nfs.path
    if not path.startswith("/") or ".." in PurePosixPath(path).parts:
        rule = "must be the absolute path of an export, without '..'"
        yield problem_at((*_CONFIG, "nfs", "path"), rule, show(path), "Write it as the server exports it")
    if not _SERVER.fullmatch(nfs.server):
        rule = "must be the name or the address of a server"
        yield problem_at((*_CONFIG, "nfs", "server"), rule, show(nfs.server), "Write the server alone")


def _check_roles(section: KubeflowSection, problem_at: ProblemMaker) -> Iterator[Problem]:
    operator, name = section.operator, section.config.operator
    known = " and ".join(operator.replica_types)
    for role in section.roles:
        if role.name not in operator.replica_types:
            rule = f"is no role of {name}, which has {known}"
            yield problem_at(("trial", role.name), rule, None, "Remove it, or rename it")
    if operator.chief not in {role.name for role in section.roles}:
        rule = f"is required with {name}: its first replica stands for the trial"
        yield problem_at(("trial", operator.chief), rule, None, "Describe it")


def _check_role(role: Role, operator: Operator, problem_at: ProblemMaker) -> Iterator[Problem]:
    path = ("trial", role.name)
    if role.replicas < 1:
        remedy = "Write at least 1, or remove the role"
        yield problem_at((*path, "replicas"), "must be at least 1", str(role.replicas), remedy)
    elif role.name == "master" and role.replicas != 1:
        yield problem_at((*path, "replicas"), "must be 1: a job has one master", str(role.replicas), "Add workers")
    if "\0" in role.command:
        remedy = "Remove the NUL character"
        yield problem_at((*path, "command"), "must be a shell command", show(role.command), remedy)
    if role.pod_template:
        yield from check_template(role.pod_template, (*path, "podTemplate"), operator.container, problem_at)
