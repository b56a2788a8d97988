"""Images without a registry: archives in the format of ``docker save``, written here."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from tests.cluster.build import BuildError, cache_folder, made_once, run, say

PAUSE_IMAGE = "trialflow.test/pause:1"
PYTHON_IMAGE = "trialflow.test/python:1"
# The Python image's user beside root; exists, so that programs which ask for their user's name work.
USER_ID = 1000

# Holds a pod's namespaces open; as their first process it also clears away what its containers leave behind.
_PAUSE_SOURCE = """
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
static void end(int number) { (void)number; _exit(0); }
static void clear(int number) { (void)number; while (waitpid(-1, 0, WNOHANG) > 0) {} }
int main(void) {
    signal(SIGINT, end);
    signal(SIGTERM, end);
    signal(SIGCHLD, clear);
    for (;;) pause();
}
"""
# The operator's init container asks for the master's address with nslookup, which is a large package in Debian.
_NSLOOKUP = '#!/bin/sh\nexec getent hosts "$1"\n'
# In the archive they are only weight: nothing is ever installed there, and nobody reads there.
_LEFT_OUT = ("dev", "proc", "sys", "var/cache", "var/lib/apt", "usr/share/doc", "usr/share/locale", "usr/share/man")
_SUITE_FALLBACK = "bookworm"


def make_images() -> tuple[Path, ...]:
    """The archives of the pause and the Python image; made once, the second in about a minute."""
    pause = cache_folder(_PAUSE_SOURCE.encode()) / "pause.tar"
    recipe = json.dumps([_suite(), _NSLOOKUP, _LEFT_OUT, USER_ID])
    python = cache_folder(recipe.encode()) / "python.tar"
    return made_once(pause, _make_pause), made_once(python, _make_python)


def write_archive(target: Path, name: str, layer: Path, config: dict[str, Any]) -> None:
    """Write an image of one layer.

    Args:
        target: The archive.
        name: Of the image, with tag.
        layer: A tar file of the image's files.
        config: What a container runs by default: ``Env``, ``Cmd``.
    """
    with layer.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _sha256(layer)
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    described = {
        "architecture": architecture,
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    with tarfile.open(target, "w") as archive:
        archive.add(layer, "layer.tar")
        for file_name, content in (("config.json", described), ("manifest.json", manifest)):
            data = json.dumps(content).encode()
            member = tarfile.TarInfo(file_name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as source:
        while block := source.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _make_pause(target: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        source, program, layer = (Path(scratch) / name for name in ("pause.c", "pause", "layer.tar"))
        source.write_text(_PAUSE_SOURCE, encoding="utf-8")
        run(["gcc", "-static", "-Os", "-s", "-o", str(program), str(source)], "compile the pause program")
        with tarfile.open(layer, "w") as archive:
            archive.add(program, "pause")
        write_archive(target, PAUSE_IMAGE, layer, {"Entrypoint": ["/pause"]})


def _make_python(target: Path) -> None:
    if os.geteuid() != 0:
        raise BuildError("the Python image is made with debootstrap, which must run as root")
    say("making the Python image; this is done once and takes about a minute")
    scratch = Path(tempfile.mkdtemp(prefix="trialflow-image-"))
    try:
        root, layer = scratch / "root", scratch / "layer.tar"
        command = ["debootstrap", "--variant=minbase", "--include=python3", _suite(), str(root)]
        run(command, "make the Python image")
        _furnish(root)
        with tarfile.open(layer, "w") as archive:
            archive.add(root, "", filter=_wanted)
        write_archive(target, PYTHON_IMAGE, layer, {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin"], "Cmd": ["python3"]})
    finally:
        shutil.rmtree(scratch)


def _furnish(root: Path) -> None:
    nslookup = root / "usr" / "local" / "bin" / "nslookup"
    nslookup.write_text(_NSLOOKUP, encoding="utf-8")
    nslookup.chmod(0o755)
    with (root / "etc" / "passwd").open("a", encoding="utf-8") as passwd:
        passwd.write(f"trial:x:{USER_ID}:{USER_ID}::/home/trial:/bin/sh\n")
    with (root / "etc" / "group").open("a", encoding="utf-8") as group:
        group.write(f"trial:x:{USER_ID}:\n")


def _wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    inside = any(member.name.startswith(f"{folder}/") for folder in _LEFT_OUT)
    return None if inside else member


def _suite() -> str:
    """The release of Debian (or Ubuntu) that this machine runs: debootstrap has its keys and its mirror."""
    command = ["sh", "-c", ". /etc/os-release && echo ${VERSION_CODENAME:-}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or _SUITE_FALLBACK
