"""Reading YAML and JSON from disk, keeping the line of every field for error messages."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from trialflow.errors import ConfigError
from trialflow.messages import HIDDEN, Problem, is_secret

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_FILE_BYTES = 1 << 20
# Aliases let a small file stand for a huge tree; no real experiment comes near this.
MAX_NODES = 50_000

FieldPath = tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """A document and where it came from.

    Attributes:
        data: The parsed document.
        file: The file's path; empty for an object or a text that was handed over as such.
        folder: Relative paths in the document start here; ``None`` when there is no such folder.
        lines: Line of each field as it was written, counted from 1.
        original: Place of a field in ``data`` → its place in the document as it was written, where that differs.
    """

    data: Any
    file: str = ""
    folder: Path | None = None
    lines: dict[FieldPath, int] = field(default_factory=dict)
    original: Callable[[FieldPath], FieldPath] | None = None

    def name(self, *path: str) -> str:
        """What the user calls a field of ``data``."""
        return ".".join(self.original(path) if self.original else path)

    def problem(self, path: FieldPath, rule: str, value: str | None = None, remedy: str = "") -> Problem:
        """A problem with one of the document's fields, placed on the nearest line that is known; secrets are hidden."""
        path = self.original(path) if self.original else path
        # In a search space, the keys are names of the user's own: a number of tokens is no secret.
        if value is not None and path[:1] != ("searchSpace",) and any(map(is_secret, path)):
            value = HIDDEN
        line = next((self.lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in self.lines), None)
        return Problem(".".join(path), rule, value, remedy, file=self.file, line=line)


def read_source(path: Path, field_name: str = "") -> Source:
    """Read a YAML or JSON file (JSON is read as YAML, which contains it).

    Args:
        path: The file.
        field_name: The field that named the file, for the error message.

    Raises:
        ConfigError: There is no such file, it cannot be read, or it is not one valid document.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise _error(path, field_name, f"must not be larger than {MAX_FILE_BYTES} bytes",
                         "Is this the right file?")  # fmt: skip
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise _error(path, field_name, "no such file", "Check the path and where it is relative to") from error
    except UnicodeDecodeError as error:
        raise _error(path, field_name, "is not UTF-8 text", "Is this the right file?") from error
    except OSError as error:
        raise _error(path, field_name, f"cannot be read: {error.strerror}", "Check its type and rights") from error
    return parse_text(text, str(path), path.parent, as_json=path.suffix == ".json")


def parse_text(text: str, file: str = "", folder: Path | None = None, *, as_json: bool = False) -> Source:
    """Parse one YAML or JSON document.

    Raises:
        ConfigError: The text is malformed, repeats a key, or stands for too large a tree.
    """
    try:
        if as_json:
            return Source(_load_json(text), file, folder)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        lines: dict[FieldPath, int] = {}
        if root is not None:
            _collect_lines(root, (), lines, [0])
        return Source(yaml.safe_load(text), file, folder, lines)
    except json.JSONDecodeError as error:
        raise _malformed(file, "JSON", f"{error.msg} (column {error.colno})", error.lineno) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        detail = " ".join(part for part in (error.context, error.problem) if part)
        raise _malformed(file, "YAML", detail, mark.line + 1 if mark else None) from error
    except (yaml.YAMLError, ValueError) as error:
        raise _malformed(file, "JSON" if as_json else "YAML", str(error)) from error
    except RecursionError as error:
        raise _malformed(file, "document", "it is nested too deeply") from error


def _load_json(text: str) -> Any:
    def reject_constant(name: str) -> None:
        raise ValueError(f"{name} is not a JSON number")

    def reject_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen = dict(pairs)
        if len(seen) < len(pairs):
            names = [name for name, _ in pairs]
            raise ValueError(f"the key {next(n for n in names if names.count(n) > 1)!r} stands twice")
        return seen

    return json.loads(text, parse_constant=reject_constant, object_pairs_hook=reject_duplicates)


def _collect_lines(node: yaml.Node, path: FieldPath, lines: dict[FieldPath, int], count: list[int]) -> None:
    count[0] += 1
    if count[0] > MAX_NODES:
        raise ValueError(f"it stands for more than {MAX_NODES} values")
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            child = (*path, str(key.value))
            if child in lines:
                mark = key.start_mark
                raise yaml.MarkedYAMLError(None, None, f"the key {key.value!r} stands twice", mark)
            lines[child] = key.start_mark.line + 1
            _collect_lines(value, child, lines, count)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _collect_lines(value, (*path, str(index)), lines, count)


def _malformed(file: str, kind: str, detail: str, line: int | None = None) -> ConfigError:
    rule = f"is not valid {kind}: {detail}"
    return ConfigError([Problem("", rule, None, "Correct the file", file or "config", line)])


def _error(path: Path, field_name: str, rule: str, remedy: str = "") -> ConfigError:
    return ConfigError([Problem(field_name, rule, str(path), remedy)])
