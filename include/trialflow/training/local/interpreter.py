"""Which Python a local trial's command ``python3`` is.

The first that is given counts: ``pythonPath`` of the experiment, the environment of whoever typed ``nnictl create`` on
this machine, TRIALFLOW_TRIAL_PYTHON_PATH, the worker's own.
"""

from __future__ import annotations

import hashlib
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialflow.errors import ConfigError
from trialflow.messages import Problem, show

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trialflow.training.local.section import LocalSection

# What is sent along with an experiment, and nothing else.
VARIABLES = ("PATH", "VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV")
_MACHINE = "machine"
_LONGEST = 1 << 15
# Of the worker's own Python, and no good to another one.
_OF_WORKER = (*VARIABLES[1:], "CONDA_SHLVL", "CONDA_PROMPT_MODIFIER", "PYTHONPATH", "PYTHONHOME")
# The installation's own configuration, database address and keys are none of a trial's business.
_PRIVATE_PREFIXES = ("AIRFLOW", "_AIRFLOW", "TRIALFLOW")


def machine_id() -> str:
    """The same for all processes that share a machine and its name since it was started; a container has its own."""
    boot = ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return hashlib.sha256(f"{socket.gethostname()}\0{boot}".encode()).hexdigest()


def sent_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What the command line sends of its shell's environment."""
    return {_MACHINE: machine_id(), **{name: environ[name] for name in VARIABLES if environ.get(name)}}


def read_environment(raw: Any) -> dict[str, str] | None:
    """The variables that came with an experiment; ``None`` when they come from another machine.

    Raises:
        ConfigError: They are no such variables.
    """
    if raw is None:
        return None
    if not isinstance(raw, dict) or set(raw) - {_MACHINE, *VARIABLES}:
        raise _refusal("may hold no other variables than " + ", ".join(VARIABLES), raw)
    for name, value in raw.items():
        if not isinstance(value, str) or not value.isprintable() or len(value) > _LONGEST:
            raise _refusal(f"{name} must be a printable text of at most {_LONGEST} characters", value)
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        if not os.path.isabs(raw.get(name, "/")):  # noqa: PTH117
            raise _refusal(f"{name} must be an absolute path", raw[name])
    if raw.get(_MACHINE) != machine_id():
        return None
    found = {name: raw[name] for name in VARIABLES if name in raw}
    folders = [folder for folder in found.get("PATH", "").split(os.pathsep) if folder.startswith("/")]
    return {**found, "PATH": os.pathsep.join(folders)}


def _refusal(rule: str, value: Any) -> ConfigError:
    return ConfigError([Problem("environment", rule, show(value), "Start it with: nnictl create")])


def with_python(inherited: Mapping[str, str], section: LocalSection, setting: str) -> dict[str, str]:
    """An environment in which ``python3`` and ``python`` are the trial's.

    Args:
        inherited: The worker's environment; the installation's secrets are left out.
        section: The experiment's.
        setting: TRIALFLOW_TRIAL_PYTHON_PATH.
    """
    inherited = {name: value for name, value in inherited.items() if not name.startswith(_PRIVATE_PREFIXES)}
    own, path = str(Path(sys.executable).parent), inherited.get("PATH", os.defpath)
    sent, named = section.environment, section.python_path
    if not (named or sent or setting):
        return {**inherited, "PATH": os.pathsep.join([own, path])}
    kept = {name: value for name, value in inherited.items() if name not in _OF_WORKER}
    if sent and not named:
        return {**kept, **sent, "PATH": os.pathsep.join(filter(None, [sent.get("PATH"), own]))}
    folder = programs_of(named or setting)
    return {**kept, **_variables_of(folder.parent), "PATH": os.pathsep.join([str(folder), path])}


def programs_of(name: str) -> Path:
    """The folder with an environment's programs, whichever of the two is named, or a program in it."""
    path = Path(name).expanduser()
    if path.is_file():
        return path.parent
    has_programs = any(os.path.lexists(path / "bin" / program) for program in ("python3", "python"))
    return path / "bin" if has_programs else path


def _variables_of(environment: Path) -> dict[str, str]:
    if (environment / "pyvenv.cfg").is_file():
        return {"VIRTUAL_ENV": str(environment)}
    if (environment / "conda-meta").is_dir():
        return {"CONDA_PREFIX": str(environment), "CONDA_DEFAULT_ENV": environment.name}
    return {}


def describe_origin(section: LocalSection, setting: str) -> str:
    """Who has named the Python."""
    if section.python_path:
        return "named by pythonPath"
    if section.environment:
        return "of the shell that started the experiment"
    return "named by TRIALFLOW_TRIAL_PYTHON_PATH" if setting else "the worker's own"
