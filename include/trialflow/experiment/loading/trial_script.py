"""What the Python of a local trial will say to the script that its command names, asked before the first trial."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trialflow.messages import printable
from trialflow.sdk import SDK_FOLDER
from trialflow.training.local.interpreter import describe_origin, with_python
from trialflow.trial_files import read_user_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trialflow.records import JsonObject
    from trialflow.training.local.section import LocalSection

_CHECK_SECONDS = 20.0
_LONGEST_ANSWER = 1 << 16
_LARGEST_SCRIPT = 1 << 20
_PYTHON = re.compile(r"(?:.*/)?python[0-9.]*")
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=")
_ENDS = frozenset({";", "&&", "||", "|", "&", "(", ")"})
# Behind these, `python3` may be another one than before, or the folder another one.
_UNKNOWN = ("source", ".", "eval", "conda", "mamba", "module", "export", "pushd", "exec", "poetry", "uv", "pipenv")
_ANY = re.compile(r"[$`*?~]")
# Runs in any Python 3; prints what is wrong with the script in the first argument.
_CHECK = r"""
import ast, importlib.util, json, os, sys
script = sys.argv[1]
sys.path[:] = [os.path.dirname(script)] + [entry for entry in sys.path if entry not in ("", os.getcwd())]
found = {"version": "%d.%d.%d" % sys.version_info[:3], "missing": []}
with open(script, "rb") as file:
    text = file.read()
try:
    compile(text, script, "exec", 0, True)
    names = []
    for node in ast.parse(text).body if b"sys.path" not in text else []:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names.append(node.module)
    for name in sorted({name.split(".")[0] for name in names}):
        try:
            known = name in sys.modules or importlib.util.find_spec(name) is not None
        except Exception:
            known = True
        if not known:
            found["missing"].append(name)
except SyntaxError as error:
    found["syntax"] = "line %s: %s" % (error.lineno, error.msg)
except Exception:
    pass
print(json.dumps(found))
"""


@dataclass(frozen=True)
class TrialPython:
    """The Python of an experiment's trials.

    Attributes:
        description: For people: where it lies, its version if it was asked, and who has named it.
        warnings: Why the trials' script cannot run with it, one sentence each.
    """

    description: str
    warnings: tuple[str, ...] = ()


def find_trial_python(section: LocalSection, folder: Path, setting: str) -> TrialPython:
    """Ask the Python of a local experiment's trials; no user code is run, and nothing is raised.

    Args:
        section: The experiment's.
        folder: Where the command starts.
        setting: TRIALFLOW_TRIAL_PYTHON_PATH.
    """
    environment = with_python(os.environ, section, setting)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(SDK_FOLDER), environment.get("PYTHONPATH")]))
    script = find_script(section.command, folder)
    python = shutil.which(script.python if script else "python3", path=environment["PATH"])
    origin = describe_origin(section, setting)
    if python is None:
        return TrialPython(f"none that is called {script.python if script else 'python3'} ({origin})")
    if script is None:
        return TrialPython(f"{python} ({origin})")
    if not script.path.exists():
        warning = f"the trial's command runs {printable(str(script.path))}, which does not exist"
        return TrialPython(f"{python} ({origin})", (warning,))
    # What is no plain file, a device for example, would never be read to its end.
    found = _ask(python, script, environment) if _is_readable(script.path) else {}
    version = f"Python {found['version']}, " if "version" in found else ""
    return TrialPython(f"{python} ({version}{origin})", tuple(_complain(found, script, f"{python}, {origin},")))


def _complain(found: JsonObject, script: Script, python: str) -> Iterator[str]:
    name = printable(script.path.name)
    if "syntax" in found:
        yield f"{name} does not compile with {python} {printable(str(found['syntax']))}"
    if found.get("missing"):
        modules = printable(", ".join(map(str, found["missing"])))
        yield (
            f"{name} imports {modules}, and {python} does not have it; activate the environment that has it and start "
            "the experiment from there, or name that environment as pythonPath"
        )


@dataclass(frozen=True)
class Script:
    """The script of a trial's command.

    Attributes:
        path: Where it lies.
        python: The program that the command runs it with.
    """

    path: Path
    python: str


def find_script(command: str, folder: Path) -> Script | None:
    """The first script that a command runs with a Python; ``None`` when that cannot be told for sure."""
    try:
        one_line = command.strip().replace("\\\n", " ").replace("\n", " ; ")
        lexer = shlex.shlex(one_line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        tokens = list(lexer)
    except ValueError:
        return None
    for words in _simple_commands(tokens):
        names = [match[1] for word in words if (match := _ASSIGNMENT.match(word))]
        if words[0] in _UNKNOWN or "PATH" in names or "PYTHONPATH" in names:
            return None
        if words[0] == "cd":
            if len(words) != 2 or _ANY.search(words[1]):
                return None
            folder = folder / words[1]
            continue
        index = next((index for index, word in enumerate(words) if _PYTHON.fullmatch(word)), None)
        if index is not None:
            return _script_of(words[index], words[index + 1 :], folder)
    return None


def _simple_commands(tokens: list[str]) -> Iterator[list[str]]:
    words: list[str] = []
    for token in [*tokens, ";"]:
        if token not in _ENDS:
            words.append(token)
        elif words:
            yield words
            words = []


def _script_of(python: str, arguments: list[str], folder: Path) -> Script | None:
    for argument in arguments:
        if argument in ("-c", "-m"):
            return None
        if not argument.startswith("-"):
            plain = argument.endswith(".py") and not _ANY.search(argument) and not _ANY.search(python)
            program = str(folder / python) if "/" in python else python
            return Script(Path(os.path.normpath(folder / argument)), program) if plain else None
    return None


def _is_readable(path: Path) -> bool:
    try:
        return bool(read_user_file(path, _LARGEST_SCRIPT))
    except OSError:
        return False


def _ask(python: str, script: Script, environment: dict[str, str]) -> JsonObject:
    command = [python, "-c", _CHECK, str(script.path)]
    try:
        answer = subprocess.run(
            command, env=environment, cwd=script.path.parent, stdin=subprocess.DEVNULL, capture_output=True,
            timeout=_CHECK_SECONDS, check=False,
        )  # fmt: skip
        found = json.loads(answer.stdout[-_LONGEST_ANSWER:].decode(errors="replace").splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return {}
    return found if isinstance(found, dict) else {}
