"""NNI's v1 experiment format, key by key, as pydantic models.

Every key that NNI 1.x knew is declared. Keys that this version does not carry out yet are refused by name in
`trialflow.config.reader`; keys that have no meaning here (a manager's address, say) are accepted with a warning.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Count = Annotated[int, Field(strict=True, ge=1, le=99999)]
Amount = Annotated[int, Field(strict=True, ge=0)]
Text = Annotated[str, Field(strict=True)]
NonEmptyText = Annotated[str, StringConstraints(strict=True, min_length=1, strip_whitespace=True)]
Duration = Annotated[str, StringConstraints(strict=True, pattern=r"^[1-9][0-9]{0,9}[smhd]$")]
Flag = Annotated[bool, Field(strict=True)]

Platform = Literal["local", "remote", "pai", "kubeflow", "frameworkcontroller", "paiYarn"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Algorithm(_Section):
    """``tuner``, ``assessor`` or ``advisor``: a built-in name, or a class of the user's own."""

    classArgs: dict[str, Any] = {}
    codeDir: NonEmptyText | None = None
    classFileName: NonEmptyText | None = None
    className: NonEmptyText | None = None
    includeIntermediateResults: Flag = False
    gpuIndices: Any = None
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


class LocalTrial(_Section):
    """``trial`` of the local and remote platforms."""

    command: NonEmptyText
    codeDir: NonEmptyText
    gpuNum: Amount = 0


class PodMetadata(_Section):
    """What a pod template adds to the metadata of a role's pods."""

    labels: dict[str, Text] = {}
    annotations: dict[str, Text] = {}


class PodTemplate(_Section):
    """A key of ours, laid over a role's pods: a pod template as Kubernetes writes it, which judges the ``spec``."""

    metadata: PodMetadata = PodMetadata()
    spec: dict[str, Any] = {}


class KubeflowRole(_Section):
    """One role of a TFJob or PyTorchJob."""

    replicas: Annotated[int, Field(strict=True)]
    command: NonEmptyText
    gpuNum: Amount
    cpuNum: Amount
    memoryMB: Amount
    image: NonEmptyText
    privateRegistryAuthPath: NonEmptyText | None = None
    podTemplate: PodTemplate | None = None


class KubeflowTrial(_Section):
    """``trial`` of the kubeflow platform."""

    codeDir: NonEmptyText
    worker: KubeflowRole | None = None
    ps: KubeflowRole | None = None
    master: KubeflowRole | None = None


class Nfs(_Section):
    """An NFS export."""

    server: NonEmptyText
    path: NonEmptyText


class Pvc(_Section):
    """A persistent volume claim, and the folder on it that is used."""

    claim: NonEmptyText
    path: NonEmptyText | None = None


class KeyVault(_Section):
    """Where the key of an Azure storage account lies."""

    vaultName: NonEmptyText
    name: NonEmptyText


class AzureStorage(_Section):
    """An Azure file share."""

    accountName: NonEmptyText
    azureShare: NonEmptyText


class KubeflowConfig(_Section):
    """The cluster's side of the platform; ``namespace``, ``serviceAccountName`` and ``pvc`` are keys of ours."""

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


class LocalConfig(_Section):
    """GPU scheduling of the local platform."""

    gpuIndices: Any = None
    maxTrialNumPerGpu: Count | None = None
    useActiveGpu: Flag | None = None


class ExperimentV1(_Section):
    """The keys that every platform shares; ``trial`` and the platform's own sections are read by platform."""

    authorName: NonEmptyText
    experimentName: NonEmptyText
    description: Text = ""
    trialConcurrency: Count
    maxExecDuration: Duration = "999d"
    maxTrialNum: Count = 99999
    trainingServicePlatform: Platform
    searchSpacePath: NonEmptyText | None = None
    useAnnotation: Flag = False
    multiPhase: Flag = False
    multiThread: Flag = False
    versionCheck: Flag = False
    debug: Flag = False
    nniManagerIp: Text | None = None
    logDir: NonEmptyText | None = None
    logLevel: Literal["trace", "debug", "info", "warning", "error", "fatal"] = "info"
    logCollection: Literal["http", "none"] = "none"
    tuner: Tuner | None = None
    assessor: Assessor | None = None
    advisor: Advisor | None = None
    trial: dict[str, Any]
    kubeflowConfig: dict[str, Any] | None = None
    localConfig: LocalConfig | None = None
    machineList: list[Any] | None = None
    paiConfig: dict[str, Any] | None = None
    paiYarnConfig: dict[str, Any] | None = None
    frameworkcontrollerConfig: dict[str, Any] | None = None
