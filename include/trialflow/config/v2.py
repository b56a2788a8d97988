"""NNI's v2 experiment format (NNI 2.x and 3.x), key by key, as pydantic models.

Beside NNI's keys, Trialflow's own are declared: ``goal`` and ``maxFailedTrialNumber``, and those of the v1 format that
NNI dropped and that mean something here: ``authorName``, ``description``, ``multiThread``,
``includeIntermediateResults`` of a tuner, ``privateRegistryAuthPath`` of a role, ``uploadRetryCount`` of a storage; on
kubeflow also ``serviceAccountName``, ``podTemplate`` of a role and a storage of the type ``pvc``; on local
``useCodeCopy`` and ``pythonPath``. What is optional may also be null, as in NNI.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from trialflow.config.fields import (
    Amount,
    Duration,
    Flag,
    Goal,
    GpuIndices,
    Integer,
    MemorySize,
    NonEmptyText,
    Port,
    Positive,
    Section,
    Text,
)

Platform = Literal["local", "remote", "openpai", "kubeflow", "frameworkcontroller", "aml", "dlc", "adl"]


class Algorithm(Section):
    """``tuner``, ``assessor`` or ``advisor``: a built-in name, or a class of the user's own."""

    name: NonEmptyText | None = None
    className: NonEmptyText | None = None
    codeDirectory: NonEmptyText | None = None
    classArgs: dict[str, Any] | None = None
    includeIntermediateResults: Flag | None = None


class TrainingService(Section):
    """What every platform's section may hold; the trial's keys stand for those of the same name at the top."""

    platform: Platform
    trialCommand: NonEmptyText | None = None
    trialCodeDirectory: NonEmptyText | None = None
    trialGpuNumber: Amount | None = None
    nniManagerIp: Text | None = None
    debug: Flag | None = None
    reuseMode: Flag | None = None


class Local(TrainingService):
    """Processes of this machine."""

    useActiveGpu: Flag | None = None
    maxTrialNumberPerGpu: Positive | None = None
    gpuIndices: GpuIndices = None
    useCodeCopy: Flag | None = None
    pythonPath: NonEmptyText | None = None


class Machine(Section):
    """One machine, reached over SSH."""

    host: NonEmptyText
    port: Port = 22
    user: NonEmptyText
    password: Text | None = None
    sshKeyFile: NonEmptyText | None = None
    sshPassphrase: Text | None = None
    useActiveGpu: Flag | None = None
    maxTrialNumberPerGpu: Positive | None = None
    gpuIndices: GpuIndices = None
    pythonPath: NonEmptyText | None = None
    preCommand: NonEmptyText | None = None


class Remote(TrainingService):
    """Machines that are reached over SSH."""

    machineList: Annotated[list[Machine], Field(min_length=1)]


class Storage(Section):
    """Where the code and the results lie: an NFS export, a persistent volume claim, or an Azure file share."""

    storageType: Literal["nfs", "pvc", "azureStorage"]
    server: NonEmptyText | None = None
    path: NonEmptyText | None = None
    claim: NonEmptyText | None = None
    azureAccount: NonEmptyText | None = None
    azureShare: NonEmptyText | None = None
    keyVaultName: NonEmptyText | None = None
    keyVaultKey: NonEmptyText | None = None
    uploadRetryCount: Positive | None = None


class KubeflowRole(Section):
    """One role of a TFJob or PyTorchJob."""

    replicas: Integer
    command: NonEmptyText
    gpuNumber: Amount | None = None
    cpuNumber: Amount
    memorySize: MemorySize
    dockerImage: NonEmptyText | None = None
    codeDirectory: NonEmptyText | None = None
    privateRegistryAuthPath: NonEmptyText | None = None
    podTemplate: dict[str, Any] | None = None


class Kubeflow(TrainingService):
    """TFJobs or PyTorchJobs of a Kubernetes cluster."""

    operator: Literal["tf-operator", "pytorch-operator"]
    apiVersion: NonEmptyText
    namespace: NonEmptyText | None = None
    serviceAccountName: NonEmptyText | None = None
    storage: Storage
    worker: KubeflowRole | None = None
    ps: KubeflowRole | None = None
    master: KubeflowRole | None = None


class CompletionPolicy(Section):
    """After how many tasks of a role the whole job has failed or succeeded; -1: never."""

    minFailedTaskCount: Integer
    minSucceedTaskCount: Integer


class TaskRole(Section):
    """One role of a FrameworkController job."""

    name: NonEmptyText
    taskNumber: Integer
    command: NonEmptyText
    gpuNumber: Amount
    cpuNumber: Amount
    memorySize: MemorySize
    dockerImage: NonEmptyText | None = None
    privateRegistryAuthPath: NonEmptyText | None = None
    frameworkAttemptCompletionPolicy: CompletionPolicy


class FrameworkController(TrainingService):
    """FrameworkController jobs of a Kubernetes cluster."""

    storage: Storage
    serviceAccountName: NonEmptyText | None = None
    namespace: NonEmptyText | None = None
    taskRoles: list[TaskRole]


class SharedStorage(Section):
    """A storage that NNI mounts on every machine."""

    storageType: Literal["NFS", "AzureBlob"]
    localMountPoint: NonEmptyText
    remoteMountPoint: NonEmptyText
    localMounted: Literal["usermount", "nnimount", "nomount"]
    nfsServer: NonEmptyText | None = None
    exportedDirectory: NonEmptyText | None = None
    storageAccountName: NonEmptyText | None = None
    storageAccountKey: NonEmptyText | None = None
    containerName: NonEmptyText | None = None


class ExperimentV2(Section):
    """The keys that every platform shares, in their usual order; ``trainingService`` is read by platform."""

    experimentName: Text | None = None
    experimentType: Literal["hpo"] = "hpo"
    authorName: NonEmptyText | None = None
    description: Text | None = None
    searchSpaceFile: NonEmptyText | None = None
    searchSpace: dict[str, Any] | None = None
    trialCommand: NonEmptyText | None = None
    trialCodeDirectory: NonEmptyText | None = None
    trialGpuNumber: Amount | None = None
    trialConcurrency: Positive
    maxExperimentDuration: Duration | None = None
    maxTrialNumber: Positive | None = None
    maxTrialDuration: Duration | None = None
    maxFailedTrialNumber: Amount | None = None
    goal: Goal | None = None
    useAnnotation: Flag | None = None
    multiThread: Flag | None = None
    nniManagerIp: Text | None = None
    debug: Flag | None = None
    logLevel: Literal["trace", "debug", "info", "warning", "error", "fatal"] | None = None
    experimentWorkingDirectory: NonEmptyText | None = None
    tunerGpuIndices: GpuIndices = None
    tuner: Algorithm | None = None
    assessor: Algorithm | None = None
    advisor: Algorithm | None = None
    trainingService: dict[str, Any]
    sharedStorage: SharedStorage | None = None


class AnyPlatform(TrainingService):
    """A platform that is refused by name; its own keys are not looked at."""

    model_config = ConfigDict(extra="ignore", frozen=True)


PLATFORMS: dict[str, type[TrainingService]] = {
    "local": Local,
    "remote": Remote,
    "kubeflow": Kubeflow,
    "frameworkcontroller": FrameworkController,
}
