"""Asking the cluster, before the first pod, whether an experiment can run there; everything wrong is found at once."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from trialflow.training.base import JobRequest, Preflight
from trialflow.training.kubeflow.api import (
    ApiNotFoundError,
    ClusterError,
    UnreachableError,
    asks_operator,
    resource_path,
)
from trialflow.training.kubeflow.manifest import make_manifest
from trialflow.training.kubeflow.mounts import MOUNT_TABLE, Search, find_mount
from trialflow.training.kubeflow.pull_secrets import read_registry_login
from trialflow.training.kubeflow.section import GROUP, Cluster, KubeflowSection, Volume

if TYPE_CHECKING:
    from trialflow.messages import Problem, ProblemMaker
    from trialflow.records import JsonObject
    from trialflow.settings import Settings
    from trialflow.training.kubeflow.api import ClusterApi

_CONFIG = ("kubeflowConfig",)
# The operator's webhook, by the end of its name. It refuses a job of this name, which the API server would accept.
_WEBHOOK = 'training-operator.kubeflow.org" denied the request'
_REFUSED_NAME = "trialflow.preflight"
# Where the operator usually runs, and the names that it had over the years. It takes no lease unless it is told to.
_OPERATOR_NAMESPACE = "kubeflow"
_DEPLOYMENTS = {
    "tf-operator": ("training-operator", "tf-job-operator"),
    "pytorch-operator": ("training-operator", "pytorch-operator"),
}
# What Trialflow does in the namespace of its jobs: (group, resource, verbs). deploy/role.yaml grants just this.
_RIGHTS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (GROUP, "{plural}", ("create", "get", "list", "watch", "delete")),
    ("", "pods", ("list",)),
    ("", "pods/log", ("get",)),
    ("", "events", ("list",)),
)
_SECRET_RIGHTS = (("", "secrets", ("create", "delete")),)


def required_rights(section: KubeflowSection) -> list[tuple[str, str, str]]:
    """Every (group, resource, verb) that an experiment needs in its namespace."""
    needed = _RIGHTS + (_SECRET_RIGHTS if any(role.registry_auth_path for role in section.roles) else ())
    return [
        (group, resource.format(plural=section.operator.plural), verb)
        for group, resource, verbs in needed
        for verb in verbs
    ]


def run_preflight(
    section: KubeflowSection, problem_at: ProblemMaker, api: ClusterApi, settings: Settings
) -> Preflight[KubeflowSection]:
    """Ask the cluster and look at the storage; see `TrainingService.preflight`.

    Raises:
        UnreachableError: The cluster does not answer.
        ClusterError: It does not let us ask.
    """
    return _Preflight(section, problem_at, api, settings).run()


@dataclass
class _Preflight:
    section: KubeflowSection
    problem_at: ProblemMaker
    api: ClusterApi
    settings: Settings
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def run(self) -> Preflight[KubeflowSection]:
        section = self.section
        namespace = section.config.namespace or self.api.namespace
        self._check_secrets(section)
        mount = self._find_storage(section.volume(namespace))
        version = self._find_version(section)
        may_create = version is not None and self._check_rights(section, namespace)
        section = section.with_facts(Cluster(version or "v1", namespace, str(mount or "/")))
        is_known = may_create and self._try_job(section)
        if not is_known:
            self._look_for_operator(section)
        return Preflight(section, tuple(self.problems), tuple(self.warnings))

    def _check_secrets(self, section: KubeflowSection) -> None:
        for role in section.roles:
            if role.registry_auth_path:
                try:
                    read_registry_login(role.registry_auth_path)
                except ValueError as error:
                    remedy = "Name the config.json that 'docker login' has written"
                    path = ("trial", role.name, "privateRegistryAuthPath")
                    self._refuse(path, str(error), role.registry_auth_path, remedy)

    # ── the storage ──────────────────────────────────────────────────────────────────────────────────────────

    def _find_storage(self, volume: Volume) -> Path | None:
        """The storage as it is seen here."""
        table = MOUNT_TABLE.read_text(encoding="utf-8", errors="surrogateescape") if MOUNT_TABLE.exists() else ""
        found = find_mount(volume.key, self.settings.storage_mounts, table)
        if found.folder is None:
            self._refuse_unmounted(volume, found)
            return None
        folder = Path(PurePosixPath(found.folder) / volume.path)
        try:
            (folder / "nni").mkdir(exist_ok=True)
            with tempfile.TemporaryFile(dir=folder / "nni") as probe:
                probe.write(b"probe")
        except OSError as error:
            rule = f"must be readable and writable on the worker: {error.strerror}"
            self._refuse((*_CONFIG, _storage_key(volume)), rule, str(folder), "Check the mount and its rights")
            return None
        return folder

    def _refuse_unmounted(self, volume: Volume, search: Search) -> None:
        key = _storage_key(volume)
        rule = f"must be mounted on the worker; looked at {' and at '.join(search.looked_at)}"
        if key == "nfs":
            remedy = f"Mount it: mount -t nfs {volume.key} /mnt/nni; or name its folder in TRIALFLOW_STORAGE_MOUNTS"
        else:
            remedy = f"Mount the claim into the worker and set TRIALFLOW_STORAGE_MOUNTS='{volume.key}=/its/folder'"
        self._refuse((*_CONFIG, key), rule, volume.key, remedy)

    # ── the cluster ──────────────────────────────────────────────────────────────────────────────────────────

    def _find_version(self, section: KubeflowSection) -> str | None:
        """The version of the group in which the kind is served; the one that the file names, if it is."""
        wanted = section.config.api_version
        try:
            group = self.api.get(f"/apis/{GROUP}")
        except ApiNotFoundError:
            group = {"versions": []}
        served = [str(version["version"]) for version in group["versions"]]
        preferred = group.get("preferredVersion", {}).get("version")
        for version in sorted(served, key=lambda name: (name != wanted, name != preferred)):
            resources = self.api.get(f"/apis/{GROUP}/{version}")["resources"]
            if section.operator.plural in {resource["name"] for resource in resources}:
                if version != wanted:
                    self.warnings.append(
                        f"kubeflowConfig.apiVersion {wanted} is not served by the cluster; jobs are made as {version}"
                    )
                return version
        kind, where = section.operator.kind, f"the cluster at {self.api.address}"
        rule = f"needs the kind {kind} of {GROUP}, which {where} does not serve"
        remedy = "Install Kubeflow's training operator 1.x, or connect another cluster"
        self._refuse((*_CONFIG, "operator"), rule, section.config.operator, remedy)
        return None

    def _check_rights(self, section: KubeflowSection, namespace: str) -> bool:
        """Whether jobs may be created, which allows to try one out."""
        missing = [right for right in required_rights(section) if not self._may(*right, namespace)]
        if missing:
            listed = ", ".join(f"{verb} {resource}{group and '.'}{group}" for group, resource, verb in missing)
            rule = f"must be allowed to its user: {listed} in namespace {namespace}"
            remedy = "Apply deploy/role.yaml in that namespace and bind it to the user of the connection"
            self._refuse(_CONFIG, rule, None, remedy)
        return (GROUP, section.operator.plural, "create") not in missing

    def _may(self, group: str, resource: str, verb: str, namespace: str) -> bool:
        name, _, subresource = resource.partition("/")
        attributes = {
            "group": group,
            "resource": name,
            "subresource": subresource,
            "verb": verb,
            "namespace": namespace,
        }
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        answer = self.api.create("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
        return bool(answer["status"].get("allowed"))

    def _try_job(self, section: KubeflowSection) -> bool:
        """Let the API server judge a job like the first one, without making it; tells whether it asked the operator."""
        folder = f"{section.facts.mount.rstrip('/')}/nni/preflight"
        request = JobRequest("preflight", "aaaaa", 0, 1, {}, section, f"{folder}/code", f"{folder}/trials/aaaaa/1")
        facts = section.facts
        jobs = resource_path(f"{GROUP}/{facts.version}", facts.namespace, section.operator.plural)
        manifest = make_manifest(request)
        try:
            self.api.create(jobs, manifest, dryRun="All", fieldValidation="Strict")
        except ClusterError as error:
            if asks_operator(error):
                rule = f"needs its operator, which does not answer: {error}"
                remedy = f"See: kubectl -n {_OPERATOR_NAMESPACE} get pods"
                self._refuse((*_CONFIG, "operator"), rule, section.config.operator, remedy)
                return True
            if isinstance(error, UnreachableError):
                raise
            if "does not support dry run" in str(error):
                self.warnings.append("the job could not be tried out: a webhook of the cluster does not allow it")
                return False
            rule = f"must make a job that the cluster accepts: {error}"
            self._refuse(("trial",), rule, None, "Correct what it names")
        return self._is_judged(jobs, manifest)

    def _is_judged(self, jobs: str, manifest: JsonObject) -> bool:
        """Whether the operator, by its webhook, has a word on each job."""
        manifest["metadata"]["name"] = _REFUSED_NAME
        try:
            self.api.create(jobs, manifest, dryRun="All")
        except UnreachableError:
            raise
        except ClusterError as error:
            return _WEBHOOK in str(error)
        return False

    def _look_for_operator(self, section: KubeflowSection) -> None:
        names, hidden = _DEPLOYMENTS[section.config.operator], ""
        for name in names:
            try:
                deployment = self.api.get(resource_path("apps/v1", _OPERATOR_NAMESPACE, "deployments", name))
            except UnreachableError:
                raise
            except ApiNotFoundError:
                continue
            except ClusterError:
                hidden = f"its deployment in {_OPERATOR_NAMESPACE} may not be read; see deploy/role.yaml"
                continue
            if not deployment.get("status", {}).get("readyReplicas"):
                rule = f"needs its operator, and the deployment {_OPERATOR_NAMESPACE}/{name} has no ready replica"
                remedy = f"See: kubectl -n {_OPERATOR_NAMESPACE} describe deployment {name}"
                self._refuse((*_CONFIG, "operator"), rule, section.config.operator, remedy)
            return
        seen = hidden or f"namespace {_OPERATOR_NAMESPACE} has no deployment {' or '.join(names)}"
        why = f"no webhook of it was heard, and {seen}"
        self.warnings.append(f"whether the training operator runs is not known: {why}")

    def _refuse(self, path: tuple[str, ...], rule: str, value: str | None, remedy: str) -> None:
        self.problems.append(self.problem_at(path, rule, value, remedy))


def _storage_key(volume: Volume) -> str:
    return "nfs" if "nfs" in volume.source else "pvc"
