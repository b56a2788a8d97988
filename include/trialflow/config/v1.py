"""NNI's v1 experiment format, key by key, as pydantic models.

Every key that NNI 1.x and the v1 validator of NNI 2.x knew is declared, and Trialflow's own: ``goal``,
``maxFailedTrialNum`` and an inline ``searchSpace``. Keys that this version does not carry out yet are refused by name
in `trialflow.config.reader`; keys that have no meaning here (a manager's address, say) are accepted with a warning.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from trialflow.config.fields import (
    Amount,
    Count,
    Duration,
    Flag,
    Goal,
    GpuIndices,
    Integer,
    NonEmptyText,
    Port,
    Section,
    Text,
)

Platform = Literal[
    "local", "remote", "pai", "kubeflow", "frameworkcontroller", "paiYarn", "aml", "adl", "dlts", "hybrid"
]
NasMode = Literal["classic_mode", "enas_mode", "oneshot_mode", "darts_mode"]


class Algorithm(Section):
    """``tuner``, ``assessor`` or ``advisor``: a built-in name, or a class of the user's own."""

    classArgs: dict[str, Any] = Field(default={})
    codeDir: NonEmptyText | None = None
    classFileName: NonEmptyText | None = None
    className: NonEmptyText | None = None
    includeIntermediateResults: Flag = False
    gpuIndices: GpuIndices = None
    gpuNum: Amount | None = None


class Tuner(Algorithm):
    """The tuner."""

    builtinTunerName: NonEmptyText | None = None


class Assessor(Algorithm):
    """The assessor."""

    builtinAssessorName: NonEmptyText | None = None


class Advisor(Algorithm):
    """The advisor, which is tuner and assessor in one."""

    builtinAdvisorName: NonEmptyText | None = None


class LocalTrial(Section):
    """``trial`` of the local and remote platforms; ``useCodeCopy`` and ``pythonPath`` are keys of ours."""

    command: NonEmptyText
    codeDir: NonEmptyText
    gpuNum: Amount | None = None
    nasMode: NasMode | None = None
    useCodeCopy: Flag | None = None
    pythonPath: NonEmptyText | None = None


class PodMetadata(Section):
    """What a pod template adds to the metadata of a role's pods."""

    labels: dict[str, Text] = Field(default={})
    annotations: dict[str, Text] = Field(default={})


class PodTemplate(Section):
    """A key of ours, laid over a role's pods: a pod template as Kubernetes writes it, which judges the ``spec``."""

    metadata: PodMetadata = PodMetadata()
    spec: dict[str, Any] = Field(default={})


class KubeflowRole(Section):
    """One role of a TFJob or PyTorchJob."""

    replicas: Integer
    command: NonEmptyText
    gpuNum: Amount
    cpuNum: Amount
    memoryMB: Amount
    image: NonEmptyText
    privateRegistryAuthPath: NonEmptyText | None = None
    podTemplate: PodTemplate | None = None


class KubeflowTrial(Section):
    """``trial`` of the kubeflow platform."""

    codeDir: NonEmptyText
    worker: KubeflowRole | None = None
    ps: KubeflowRole | None = None
    master: KubeflowRole | None = None
    nasMode: NasMode | None = None


class CompletionPolicy(Section):
    """After how many tasks of a role the whole job has failed or succeeded; -1: never."""

    minFailedTaskCount: Integer
    minSucceededTaskCount: Integer


class TaskRole(Section):
    """One role of a FrameworkController job."""

    name: NonEmptyText
    taskNum: Integer
    command: NonEmptyText
    gpuNum: Amount
    cpuNum: Amount
    memoryMB: Amount
    image: NonEmptyText
    privateRegistryAuthPath: NonEmptyText | None = None
    frameworkAttemptCompletionPolicy: CompletionPolicy


class FrameworkControllerTrial(Section):
    """``trial`` of the frameworkcontroller platform; the roles may stand in a template of the user's own instead."""

    codeDir: NonEmptyText
    taskRoles: list[TaskRole] | None = None
    nasMode: NasMode | None = None


class Nfs(Section):
    """An NFS export."""

    server: NonEmptyText
    path: NonEmptyText


class Pvc(Section):
    """A persistent volume claim, and the folder on it that is used."""

    claim: NonEmptyText
    path: NonEmptyText | None = None


class KeyVault(Section):
    """Where the key of an Azure storage account lies."""

    vaultName: NonEmptyText
    name: NonEmptyText


class AzureStorage(Section):
    """An Azure file share."""

    accountName: NonEmptyText
    azureShare: NonEmptyText


class KubeflowConfig(Section):
    """The cluster's side of the platform; ``serviceAccountName`` and ``pvc`` are keys of ours."""

    operator: Literal["tf-operator", "pytorch-operator"]
    apiVersion: NonEmptyText
    namespace: NonEmptyText | None = None
    serviceAccountName: NonEmptyText | None = None
    storage: Literal["nfs", "pvc", "azureStorage"] = "nfs"
    nfs: Nfs | None = None
    pvc: Pvc | None = None
    keyVault: KeyVault | None = None
    azureStorage: AzureStorage | None = None
    uploadRetryCount: Count | None = None
    reuse: Flag | None = None


class MountedPvc(Section):
    """A persistent volume claim that the template of the whole object mounts, and where."""

    path: NonEmptyText


class FrameworkControllerConfig(Section):
    """The cluster's side of the frameworkcontroller platform."""

    storage: Literal["nfs", "azureStorage", "pvc"] = "nfs"
    nfs: Nfs | None = None
    keyVault: KeyVault | None = None
    azureStorage: AzureStorage | None = None
    pvc: MountedPvc | None = None
    uploadRetryCount: Count | None = None
    serviceAccountName: NonEmptyText | None = None
    namespace: NonEmptyText | None = None
    configPath: NonEmptyText | None = None
    reuse: Flag | None = None


class LocalConfig(Section):
    """GPU scheduling of the local platform."""

    gpuIndices: GpuIndices = None
    maxTrialNumPerGpu: Count | None = None
    useActiveGpu: Flag | None = None


class Machine(Section):
    """One machine of the remote platform, reached over SSH."""

    ip: NonEmptyText
    port: Port = 22
    username: NonEmptyText
    passwd: Text | None = None
    sshKeyPath: NonEmptyText | None = None
    passphrase: Text | None = None
    gpuIndices: GpuIndices = None
    maxTrialNumPerGpu: Count | None = None
    useActiveGpu: Flag | None = None
    pythonPath: NonEmptyText | None = None
    preCommand: NonEmptyText | None = None


class RemoteConfig(Section):
    """How the remote platform treats its machines."""

    reuse: Flag


class SharedStorage(Section):
    """A storage that NNI mounts on every machine."""

    storageType: Literal["NFS", "AzureBlob"]
    localMountPoint: NonEmptyText | None = None
    remoteMountPoint: NonEmptyText | None = None
    localMounted: Literal["usermount", "nnimount", "nomount"] | None = None
    nfsServer: NonEmptyText | None = None
    exportedDirectory: NonEmptyText | None = None
    storageAccountName: NonEmptyText | None = None
    storageAccountKey: NonEmptyText | None = None
    containerName: NonEmptyText | None = None


class ExperimentV1(Section):
    """The keys that every platform shares, in their usual order; ``trial`` is read by platform."""

    authorName: NonEmptyText
    experimentName: NonEmptyText
    description: Text = ""
    trialConcurrency: Count
    maxExecDuration: Duration = "999d"
    maxTrialNum: Count = 99999
    maxTrialDuration: Duration | None = None
    maxFailedTrialNum: Amount | None = None
    goal: Goal | None = None
    trainingServicePlatform: Platform
    searchSpacePath: NonEmptyText | None = None
    searchSpace: dict[str, Any] | None = None
    useAnnotation: Flag = False
    multiPhase: Flag = False
    multiThread: Flag = False
    nniManagerIp: Text | None = None
    logDir: NonEmptyText | None = None
    logLevel: Literal["trace", "debug", "info", "warning", "error", "fatal"] = "info"
    logCollection: Literal["http", "none"] = "none"
    debug: Flag = False
    versionCheck: Flag = False
    tuner: Tuner | None = None
    assessor: Assessor | None = None
    advisor: Advisor | None = None
    trial: dict[str, Any]
    localConfig: LocalConfig | None = None
    machineList: list[Machine] | None = None
    remoteConfig: RemoteConfig | None = None
    kubeflowConfig: dict[str, Any] | None = None
    frameworkcontrollerConfig: dict[str, Any] | None = None
    paiConfig: dict[str, Any] | None = None
    paiYarnConfig: dict[str, Any] | None = None
    amlConfig: dict[str, Any] | None = None
    dltsConfig: dict[str, Any] | None = None
    hybridConfig: dict[str, Any] | None = None
    sharedStorage: SharedStorage | None = None
