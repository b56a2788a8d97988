"""What the cluster is made of: Debian packages, programs built with Go, the operator's manifests, images.

Each part is made once and kept outside the checkout, under a name that changes with whatever it was made from. A part
appears there whole or not at all, so a build that was ended goes on where it was.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
KUBERNETES_VERSION = "v1.31.0"
OPERATOR = "training-operator"
_OPERATOR_MODULE = "github.com/kubeflow/training-operator"
_PACKAGES = {
    f"{_OPERATOR_MODULE}/cmd/training-operator.v1": OPERATOR,
    "k8s.io/kubernetes/cmd/kube-apiserver": "kube-apiserver",
    "k8s.io/kubernetes/cmd/kube-controller-manager": "kube-controller-manager",
    "k8s.io/kubernetes/cmd/kube-scheduler": "kube-scheduler",
    "k8s.io/kubernetes/cmd/kubelet": "kubelet",
}
PROGRAMS = tuple(_PACKAGES.values())
# Without a version the API server calls itself v0.0.0-master, which clients refuse to parse.
_LINKER_FLAGS = " ".join(
    ["-s", "-w"]
    + [
        f"-X k8s.io/component-base/version.{name}={value}"
        for name, value in (
            ("gitVersion", KUBERNETES_VERSION),
            ("gitMajor", KUBERNETES_VERSION.split(".", maxsplit=1)[0].removeprefix("v")),
            ("gitMinor", KUBERNETES_VERSION.split(".")[1]),
        )
    ]
)
# program or file → the Debian package that has it; only what is missing is installed, whoever brought the rest
_DEBIAN = {
    "etcd": "etcd-server",
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "ip": "iproute2",
    "debootstrap": "debootstrap",
    "gcc": "gcc libc6-dev",
}
_CNI_PACKAGE = "containernetworking-plugins"
_CNI_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
_KINDS = ("tfjobs", "pytorchjobs")


class BuildError(Exception):
    """A part of the cluster cannot be made; the message says what to do."""


@dataclass(frozen=True)
class Assets:
    """The parts, ready for use.

    Attributes:
        programs: Name → file.
        cni_folder: Where the network plugins lie.
        manifests: The operator's CRDs, its ClusterRole and its webhooks, as its authors ship them.
        images: Archives to import into each node.
    """

    programs: dict[str, Path]
    cni_folder: Path
    manifests: dict[str, list[dict[str, Any]]]
    images: tuple[Path, ...]


def say(text: str) -> None:
    """Tell the person who waits; on the error stream, as the output is for variables."""
    print(text, file=sys.stderr, flush=True)


def prepare() -> Assets:
    """Make whatever is missing; some seconds when nothing is.

    Raises:
        BuildError: A part cannot be made.
    """
    from tests.cluster.images import make_images

    install_packages()
    programs = {program: build_program(program) for program in PROGRAMS}
    programs |= {name: _given(name) or _found(name) for name in ("etcd", "containerd", "ctr")}
    return Assets(programs, _cni_folder(), operator_manifests(), make_images())


def cache_folder(*made_from: bytes) -> Path:
    """The folder for what was made from this input."""
    root = Path(os.environ.get("TRIALFLOW_CLUSTER_CACHE") or Path.home() / ".cache" / "trialflow" / "cluster")
    key = hashlib.sha256(b"\0".join([os.uname().machine.encode(), *made_from])).hexdigest()[:16]
    folder = root / key
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def made_once(file: Path, make: Callable[[Path], None]) -> Path:
    """Give the file, after ``make`` has written it to the path that it gets, if it was not there."""
    if not file.exists():
        with locked(file.with_name(f".{file.name}.lock")):
            if not file.exists():
                partial = file.with_name(f".{file.name}.partial")
                make(partial)
                partial.replace(file)
    return file


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Let one process at a time go on."""
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run(command: list[str], what: str, **arguments: Any) -> str:
    """Run a command to its end; gives its output.

    Raises:
        BuildError: It failed; carries the end of its output.
    """
    done: subprocess.CompletedProcess[str] = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **arguments
    )
    if done.returncode != 0:
        end = "\n".join(done.stdout.splitlines()[-30:])
        raise BuildError(f"could not {what}: {' '.join(command)} ended with {done.returncode}\n{end}")
    return done.stdout


# ── Debian packages ──────────────────────────────────────────────────────────────────────────────────────────────


def install_packages() -> None:
    """Install the packages of the programs that are missing."""
    missing = {package for program, package in _DEBIAN.items() if not _given(program) and not shutil.which(program)}
    if not any((folder / "bridge").exists() for folder in _CNI_FOLDERS):
        missing.add(_CNI_PACKAGE)
    if not missing:
        return
    names = sorted(name for package in missing for name in package.split())
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise BuildError(f"the test cluster needs {', '.join(names)}; install them, or run this as root on Debian")
    say(f"installing {', '.join(names)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update", "-q"], "read the package lists", env=environment)
    command = ["apt-get", "install", "-q", "-y", "--no-install-recommends", *names]
    run(command, "install packages", env=environment)


def _cni_folder() -> Path:
    return next(folder for folder in _CNI_FOLDERS if (folder / "bridge").exists())


def _found(program: str) -> Path:
    path = shutil.which(program)
    if path is None:
        raise BuildError(f"{program} must be on the PATH, but is not")
    return Path(path)


def _given(program: str) -> Path | None:
    """The program of a folder that was named in the way of Kubernetes' envtest."""
    folder = os.environ.get("KUBEBUILDER_ASSETS")
    file = Path(folder) / program if folder else None
    return file if file and file.exists() else None


# ── Go programs ──────────────────────────────────────────────────────────────────────────────────────────────────


def build_program(program: str) -> Path:
    """Build a program from the module proxy; minutes the first time."""
    return _given(program) or made_once(_go_cache() / program, lambda partial: _go_build(program, partial))


def _go_cache() -> Path:
    return cache_folder((HERE / "go.sum").read_bytes(), _LINKER_FLAGS.encode())


def _go_build(program: str, target: Path) -> None:
    package = next(package for package, name in _PACKAGES.items() if name == program)
    say(f"building {program}; this is done once and takes minutes")
    began = time.monotonic()
    # Two at a time: the compiler takes up to 1 GB for one package.
    _go(["build", "-p", "2", "-trimpath", "-ldflags", _LINKER_FLAGS, "-o", str(target), package], f"build {program}")
    say(f"built {program} in {time.monotonic() - began:.0f} s")


def _go(arguments: list[str], what: str) -> str:
    if not shutil.which("go"):
        raise BuildError(f"could not {what}: the test cluster is built with Go 1.24 or later; put it on the PATH")
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false -mod=readonly"}
    return run(["go", *arguments], what, cwd=HERE, env=environment)


# ── the operator's manifests ─────────────────────────────────────────────────────────────────────────────────────


def operator_manifests() -> dict[str, list[dict[str, Any]]]:
    """What its module ships, as JSON: the YAML of the CRDs takes ten times as long to read."""
    file = made_once(_go_cache() / "manifests.json", _collect_manifests)
    manifests: dict[str, list[dict[str, Any]]] = json.loads(file.read_bytes())
    return manifests


def _collect_manifests(target: Path) -> None:
    _go(["mod", "download", _OPERATOR_MODULE], "fetch the operator's manifests")
    module = Path(_go(["list", "-m", "-f", "{{.Dir}}", _OPERATOR_MODULE], "find the operator's manifests").strip())
    base = module / "manifests" / "base"
    webhooks = _documents(base / "webhook" / "manifests.yaml")[0]["webhooks"]
    collected = {
        "crds": [doc for kind in _KINDS for doc in _documents(base / "crds" / f"kubeflow.org_{kind}.yaml")],
        "roles": [doc for doc in _documents(base / "rbac" / "role.yaml") if doc["kind"] == "ClusterRole"],
        "webhooks": [hook for hook in webhooks if hook["rules"][0]["resources"][0] in _KINDS],
    }
    target.write_text(json.dumps(collected), encoding="utf-8")


def _documents(file: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(file.read_text(encoding="utf-8")) if document]
