"""Which key of the v1 format is which key of the v2 format.

A row names a path in a v1 and in a v2 document; ``*`` stands for every item of a list. Rows stand in the order in which
keys are usually written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from trialflow.builtin import ADVISORS, ASSESSORS, REFUSED, TUNERS
from trialflow.config.fields import fold
from trialflow.config.source import FieldPath

if TYPE_CHECKING:
    from collections.abc import Mapping

Row = tuple[FieldPath, FieldPath]
# The section of a v2 document in which an advisor stands, if any: NNI 3.x wants it named as the tuner.
AdvisorSection = Literal["tuner", "advisor"]

# NNI 2.x and 3.x call these without the ending that NNI 1.x gave them, or with it.
_BUILTIN = {
    spelling.lower(): name
    for name in (*TUNERS, *ADVISORS, *ASSESSORS, *REFUSED)
    for spelling in (name, name.removesuffix("Tuner"))
}

_SHARED = {
    "authorName": "authorName",
    "experimentName": "experimentName",
    "description": "description",
    "trialConcurrency": "trialConcurrency",
    "maxExecDuration": "maxExperimentDuration",
    "maxTrialNum": "maxTrialNumber",
    "maxTrialDuration": "maxTrialDuration",
    "maxFailedTrialNum": "maxFailedTrialNumber",
    "goal": "goal",
    "trainingServicePlatform": "trainingService.platform",
    "searchSpacePath": "searchSpaceFile",
    "searchSpace": "searchSpace",
    "useAnnotation": "useAnnotation",
    "multiThread": "multiThread",
    "nniManagerIp": "nniManagerIp",
    "logDir": "experimentWorkingDirectory",
    "logLevel": "logLevel",
    "debug": "debug",
    "trial.codeDir": "trialCodeDirectory",
    "sharedStorage": "sharedStorage",
}
_ALGORITHM = {
    "codeDir": "codeDirectory",
    "className": "className",
    "classArgs": "classArgs",
    "includeIntermediateResults": "includeIntermediateResults",
}
_COMMAND = {"trial.command": "trialCommand", "trial.gpuNum": "trialGpuNumber"}
_GPU = {"gpuIndices": "gpuIndices", "maxTrialNumPerGpu": "maxTrialNumberPerGpu", "useActiveGpu": "useActiveGpu"}
_MACHINE = {
    "ip": "host",
    "port": "port",
    "username": "user",
    "passwd": "password",
    "sshKeyPath": "sshKeyFile",
    "passphrase": "sshPassphrase",
    "pythonPath": "pythonPath",
    "preCommand": "preCommand",
    **_GPU,
}
_CLUSTER = {
    "namespace": "namespace",
    "serviceAccountName": "serviceAccountName",
    "reuse": "reuseMode",
    "storage": "storage.storageType",
}
# By the type of storage; a storage path is v1's nfs.path or pvc.path.
_STORAGES = {
    "nfs": {"nfs.server": "storage.server", "nfs.path": "storage.path"},
    "pvc": {"pvc.claim": "storage.claim", "pvc.path": "storage.path"},
    "azureStorage": {
        "azureStorage.accountName": "storage.azureAccount",
        "azureStorage.azureShare": "storage.azureShare",
        "keyVault.vaultName": "storage.keyVaultName",
        "keyVault.name": "storage.keyVaultKey",
        "uploadRetryCount": "storage.uploadRetryCount",
    },
}
_ROLE = {
    "command": "command",
    "gpuNum": "gpuNumber",
    "cpuNum": "cpuNumber",
    "memoryMB": "memorySize",
    "image": "dockerImage",
    "privateRegistryAuthPath": "privateRegistryAuthPath",
}
_KUBEFLOW_ROLE = {"replicas": "replicas", **_ROLE, "podTemplate": "podTemplate"}
_TASK_ROLE = {
    "name": "name",
    "taskNum": "taskNumber",
    **_ROLE,
    "frameworkAttemptCompletionPolicy.minFailedTaskCount": "frameworkAttemptCompletionPolicy.minFailedTaskCount",
    "frameworkAttemptCompletionPolicy.minSucceededTaskCount": "frameworkAttemptCompletionPolicy.minSucceedTaskCount",
}
_OPENPAI_TRIAL = {
    "nniManagerNFSMountPath": "localStorageMountPoint",
    "containerNFSMountPath": "containerStorageMountPoint",
    "cpuNum": "trialCpuNumber",
    "memoryMB": "trialMemorySize",
    "image": "dockerImage",
    "virtualCluster": "virtualCluster",
    "paiStorageConfigName": "storageConfigName",
    "paiConfigPath": "openpaiConfigFile",
}
_OPENPAI = {"host": "host", "userName": "username", "token": "token", "reuse": "reuseMode"}


def _below(v1: str, v2: str, rows: Mapping[str, str]) -> dict[str, str]:
    return {f"{v1}.{old}": f"{v2}.{new}" for old, new in rows.items()}


# By v1's name of the platform.
_PLATFORMS: dict[str, dict[str, str]] = {
    "local": _COMMAND
    | _below("localConfig", "trainingService", _GPU)
    | _below("trial", "trainingService", {"useCodeCopy": "useCodeCopy", "pythonPath": "pythonPath"}),
    "remote": _COMMAND
    | {"remoteConfig.reuse": "trainingService.reuseMode"}
    | _below("machineList.*", "trainingService.machineList.*", _MACHINE),
    "kubeflow": _below("kubeflowConfig", "trainingService", {"operator": "operator", "apiVersion": "apiVersion"})
    | _below("kubeflowConfig", "trainingService", _CLUSTER)
    | _below("trial.master", "trainingService.master", _KUBEFLOW_ROLE)
    | _below("trial.ps", "trainingService.ps", _KUBEFLOW_ROLE)
    | _below("trial.worker", "trainingService.worker", _KUBEFLOW_ROLE),
    "frameworkcontroller": _below("frameworkcontrollerConfig", "trainingService", _CLUSTER)
    | _below("trial.taskRoles.*", "trainingService.taskRoles.*", _TASK_ROLE),
    "pai": _COMMAND
    | _below("paiConfig", "trainingService", _OPENPAI)
    | _below("trial", "trainingService", _OPENPAI_TRIAL),
}
CONVERTIBLE = tuple(_PLATFORMS)
# v1's sections with a storage.
_WITH_STORAGE = {"kubeflow": "kubeflowConfig", "frameworkcontroller": "frameworkcontrollerConfig"}
_V2_PLATFORMS = {"pai": "openpai"}
_V1_PLATFORMS = {v2: v1 for v1, v2 in _V2_PLATFORMS.items()}
# Where NNI's v2 format takes a key also from inside trainingService; what stands there counts.
_SHORTCUTS = {
    "trial.command": "trainingService.trialCommand",
    "trial.gpuNum": "trainingService.trialGpuNumber",
    "trial.codeDir": "trainingService.trialCodeDirectory",
    "nniManagerIp": "trainingService.nniManagerIp",
    "debug": "trainingService.debug",
}
# Sections of v1 without a counterpart of their own: where to look in a v2 document.
_SECTIONS: dict[FieldPath, FieldPath] = {
    ("trial",): ("trainingService",),
    ("kubeflowConfig",): ("trainingService",),
    ("frameworkcontrollerConfig",): ("trainingService",),
    ("paiConfig",): ("trainingService",),
    ("localConfig",): ("trainingService",),
    ("remoteConfig",): ("trainingService",),
    ("machineList",): ("trainingService", "machineList"),
    **{
        (section, kind): ("trainingService", "storage")
        for section in _WITH_STORAGE.values()
        for kind in ("nfs", "pvc", "azureStorage", "keyVault")
    },
}


def rows_of(v1_platform: str, advisor: AdvisorSection | None = None, storage: str = "") -> list[Row]:
    """The rows for an experiment on a platform, without the shortcuts.

    Args:
        v1_platform: v1's name of the platform; for one that is not known, what every platform shares.
        advisor: The section of the v2 document in which an advisor stands; ``None`` when a tuner suggests.
        storage: The type of storage, where a platform has one; NNI's default is NFS.
    """
    rows = _SHARED | {f"{'advisor' if advisor else 'tuner'}.gpuIndices": "tunerGpuIndices"}
    sections = {"tuner": "tuner", "assessor": "assessor", "advisor": "advisor"}
    if advisor == "tuner":
        sections = {"assessor": "assessor", "advisor": "tuner"}
    for section, in_v2 in sections.items():
        rows |= _below(section, in_v2, {f"builtin{section.capitalize()}Name": "name", **_ALGORITHM})
    rows |= _PLATFORMS.get(v1_platform, _COMMAND)
    if v1_platform in _WITH_STORAGE:
        rows |= _below(_WITH_STORAGE[v1_platform], "trainingService", _STORAGES.get(storage, _STORAGES["nfs"]))
    return [(_path(v1), _path(v2)) for v1, v2 in rows.items()]


def sections_of(advisor: AdvisorSection | None) -> dict[FieldPath, FieldPath]:
    """Where in a v2 document to look for sections of v1; ``advisor`` as in `rows_of`."""
    return _SECTIONS | ({("advisor",): ("tuner",)} if advisor == "tuner" else {})


def storage_section(v1_platform: str) -> str:
    """v1's section with a platform's storage; empty when it has none."""
    return _WITH_STORAGE.get(v1_platform, "")


def shortcuts_of(rows: list[Row]) -> list[Row]:
    """The rows for paths inside ``trainingService`` that stand for others of ``rows``."""
    known = {v1 for v1, _ in rows}
    return [(_path(v1), _path(v2)) for v1, v2 in _SHORTCUTS.items() if _path(v1) in known]


def paths_of(key: str, *, v2: bool) -> dict[FieldPath, list[str]]:
    """Where a key belongs in a format, whichever format the name is of: path → v1's names of the platforms."""
    paths: dict[FieldPath, list[str]] = {}
    for platform in _PLATFORMS:
        storages = _STORAGES if platform in _WITH_STORAGE else ("",)
        rows = [row for storage in storages for row in rows_of(platform, storage=storage)]
        for row in dict.fromkeys(rows):
            if fold(key) in (fold(row[0][-1]), fold(row[1][-1])):
                paths.setdefault(row[v2], []).append(platform)
    return paths


def v1_platform(v2_name: str) -> str:
    """v1's name of a platform of v2."""
    return _V1_PLATFORMS.get(v2_name, v2_name)


def v2_platform(v1_name: str) -> str:
    """v2's name of a platform of v1."""
    return _V2_PLATFORMS.get(v1_name, v1_name)


def builtin_name(name: str) -> str:
    """v1's name of a built-in algorithm; NNI 3.0 minds its case in neither format, and shortens some."""
    return _BUILTIN.get(name.lower(), name)


def is_advisor(v2_name: str) -> bool:
    """Whether a v2 document's tuner is what v1 calls an advisor."""
    return builtin_name(v2_name) in ADVISORS


def _path(dotted: str) -> FieldPath:
    return tuple(dotted.split("."))
