"""Reading YAML and JSON from disk, keeping the line of every field for error messages.

As NNI does it: whatever a file is called, it is read as JSON if it is that, and else as YAML, so that JSON may have
comments, single quotes and trailing commas. Beyond NNI, a number with an exponent is one also where YAML 1.1 takes it
for a text (``1e-3``), where numbers belong: in a search space, in class arguments, and in the goal.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from trialflow.config import likeness, nodes, syntax
from trialflow.config.fields import fold
from trialflow.errors import ConfigError
from trialflow.messages import HIDDEN, Problem, is_secret
from trialflow.trial_files import ANYWHERE, TooLargeError, read_user_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MAX_FILE_BYTES = 1 << 20
# With an exponent and without a point or the exponent's sign, which YAML 1.1 wants to see in a number.
EXPONENT = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+")
_NO_NUMBER = re.compile(r"(?<![\w\"'])-?(NaN|Infinity)\b")
_TEXT_TAG, _FLOAT_TAG, _INT_TAG = (f"tag:yaml.org,2002:{name}" for name in ("str", "float", "int"))
# Folded names of the keys below which, and at which, numbers belong.
_NUMBERS_BELOW = frozenset({"searchspace", "classargs"})
_NUMBERS_AT = frozenset({"goal"})

FieldPath = tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """A document and where it came from.

    Attributes:
        data: The parsed document.
        file: The file's path; empty for an object or a text that was handed over as such.
        folder: Relative paths in the document start here; ``None`` when there is no such folder.
        lines: Line of each field as it was written, counted from 1.
        original: Path of a field in ``data`` → its path in the document as it was written, where that differs.
        exponents: Where a number was read that is a text to YAML 1.1 and to NNI, and how it is written.
    """

    data: Any
    file: str = ""
    folder: Path | None = None
    lines: dict[FieldPath, int] = field(default_factory=dict)
    original: Callable[[FieldPath], FieldPath] | None = None
    exponents: dict[FieldPath, str] = field(default_factory=dict)

    def name(self, *path: str) -> str:
        """What the user calls a field of ``data``."""
        return ".".join(self.original(path) if self.original else path)

    def problem(self, path: FieldPath, rule: str, value: str | None = None, remedy: str = "") -> Problem:
        """A problem with one of the document's fields, placed on the nearest line that is known; secrets are hidden."""
        path = self.original(path) if self.original else path
        # In a search space, the keys are names of the user's own: a number of tokens is no secret.
        if value is not None and path[:1] != ("searchSpace",) and any(map(is_secret, path)):
            value = HIDDEN
        return Problem(".".join(path), rule, value, remedy, file=self.file, line=self.line_of(path))

    def line_of(self, path: FieldPath) -> int | None:
        """The line of a field as it was written, or of the nearest one around it that is known."""
        return next((self.lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in self.lines), None)


def read_source(
    path: Path, field_name: str = "", *, is_space: bool = False, root: Path = ANYWHERE
) -> Source:
    """Read a YAML or JSON file.

    Args:
        path: The file.
        field_name: The field that named the file, for the error message.
        root: In which it must lie, links resolved.
        is_space: Whether the whole document is a search space.

    Raises:
        ConfigError: There is no such file, it cannot be read, or it is not one valid document.
    """
    try:
        content = read_user_file(path, MAX_FILE_BYTES, root)
    except TooLargeError as error:
        raise ConfigError([_too_large(field_name, str(path))]) from error
    except FileNotFoundError as error:
        raise _error(path, field_name, "no such file", "Check the path and where it is relative to") from error
    except OSError as error:
        raise _error(path, field_name, f"cannot be read: {error.strerror}", "Check its type and rights") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        rule, remedy = syntax.explain_encoding(content, error, path)
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError([Problem("", rule, None, remedy, str(path), line)]) from error
    try:
        return parse_text(text, str(path), path.parent, is_space=is_space)
    except ConfigError as error:
        raise ConfigError(likeness.discreet_about_text(error.problems, text, is_space=is_space)) from None


def take_object(data: dict[str, Any], folder: Path | None = None) -> Source:
    """A document that was handed over as an object.

    Raises:
        ConfigError: It is larger than a file may be, or nested too deeply.
    """
    try:
        nodes.require_bounded(data)
        size = len(json.dumps(data, default=str))
    except ValueError as error:
        raise _malformed("", "document", str(error)) from error
    if size > MAX_FILE_BYTES:
        raise ConfigError([_too_large("config", str(size))])
    return Source(data, folder=folder)


def parse_text(
    text: str, file: str = "", folder: Path | None = None, *, is_space: bool = False
) -> Source:
    """Parse one JSON or YAML document; ``is_space``: the whole document is a search space.

    Raises:
        ConfigError: The text is malformed, repeats a key, or stands for too large a tree.
    """
    if len(text) > MAX_FILE_BYTES:
        raise ConfigError([_too_large(file or "config", str(len(text)))])
    try:
        text = text.removeprefix("\ufeff")
        try:
            data = _load_json(text)
        except json.JSONDecodeError as error:
            if syntax.looks_like_json(text):
                return _parse_flow(text, file, folder, error, is_space=is_space)
            return _parse_yaml(text, file, folder, is_space=is_space)
        return Source(data, file, folder, _lines_of_json(text))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        detail = " ".join(part for part in (error.context, error.problem) if part)
        remedy = syntax.explain(error, text)
        raise _malformed(file, "YAML", detail, mark.line + 1 if mark else None, remedy) from error
    except (yaml.YAMLError, ValueError) as error:
        is_json = syntax.looks_like_json(text)
        line = _line_of_fault(text) if is_json else None
        raise _malformed(file, "JSON" if is_json else "YAML", str(error), line) from error
    except RecursionError as error:
        raise _malformed(file, "document", "it is nested too deeply") from error


def _parse_flow(
    text: str, file: str, folder: Path | None, error: json.JSONDecodeError, *, is_space: bool
) -> Source:
    """Parse what looks like JSON, and is none, as YAML; of the two errors, that which comes later tells more."""
    try:
        return _parse_yaml(syntax.without_tabs(text), file, folder, is_space=is_space)
    except yaml.MarkedYAMLError as later:
        mark = later.problem_mark
        if mark is not None and (mark.line + 1, mark.column + 1) > (error.lineno, error.colno):
            raise
        detail = f"{error.msg} (column {error.colno})"
        remedy = syntax.explain_json(error, text) or syntax.explain(later, text)
        raise _malformed(file, "JSON", detail, error.lineno, remedy) from error


def _parse_yaml(text: str, file: str, folder: Path | None, *, is_space: bool) -> Source:
    root = nodes.compose(text)
    walk = _Walk(is_space=is_space)
    if root is None:
        return Source(None, file, folder)
    walk.visit(root, ())
    return Source(nodes.construct(root), file, folder, walk.lines, exponents=walk.exponents)


def _load_json(text: str) -> Any:
    def reject_constant(name: str) -> None:
        raise ValueError(f"{name} is not a JSON number")

    def reject_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            seen: set[str] = set()
            twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
            raise ValueError(f"the key {twice!r} stands twice")
        return found

    def read_integer(digits: str) -> int:
        if len(digits) > nodes.MAX_DIGITS:
            raise ValueError(nodes.TOO_LONG)
        return int(digits)

    data = json.loads(
        text, parse_constant=reject_constant, parse_int=read_integer, object_pairs_hook=reject_duplicates
    )
    nodes.require_bounded(data)
    return data


def _lines_of_json(text: str) -> dict[FieldPath, int]:
    """The lines of a JSON document's fields; none where YAML does not take the same text."""
    walk = _Walk(is_space=False)
    try:
        walk.visit(nodes.compose(syntax.without_tabs(text)), ())
    except (yaml.YAMLError, ValueError):
        return {}
    return walk.lines


def _line_of_fault(text: str) -> int | None:
    """The line of what is JSON and is refused nevertheless: a key that stands twice, or a number that is none."""
    try:
        _Walk(is_space=False).visit(nodes.compose(syntax.without_tabs(text)), ())
    except yaml.MarkedYAMLError as error:
        return error.problem_mark.line + 1 if error.problem_mark else None
    except (yaml.YAMLError, ValueError):
        return None
    found = _NO_NUMBER.search(text)
    return text.count("\n", 0, found.start()) + 1 if found else None


@dataclass
class _Walk:
    """Looks at every node of a document before values are made of them."""

    is_space: bool
    lines: dict[FieldPath, int] = field(default_factory=dict)
    exponents: dict[FieldPath, str] = field(default_factory=dict)
    count: int = 0

    def visit(self, node: yaml.Node | None, path: FieldPath) -> None:
        self.count += 1
        if self.count > nodes.MAX_NODES:
            raise ValueError(f"it stands for more than {nodes.MAX_NODES} values")
        if len(path) > nodes.MAX_DEPTH:
            raise ValueError(nodes.TOO_DEEP)
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                child = (*path, str(key.value))
                if child in self.lines:
                    raise yaml.MarkedYAMLError(None, None, f"the key {key.value!r} stands twice", key.start_mark)
                self.lines[child] = key.start_mark.line + 1
                self.visit(value, child)
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                child = (*path, str(index))
                self.lines[child] = value.start_mark.line + 1
                self.visit(value, child)
        elif isinstance(node, yaml.ScalarNode):
            self._visit_scalar(node, path)

    def _visit_scalar(self, node: yaml.ScalarNode, path: FieldPath) -> None:
        if node.tag in (_INT_TAG, _FLOAT_TAG) and len(node.value) > nodes.MAX_DIGITS:
            raise yaml.MarkedYAMLError(None, None, nodes.TOO_LONG, node.start_mark)
        if self._is_exponent(node, path):
            node.tag = _FLOAT_TAG
            self.exponents[path] = node.value

    def _is_exponent(self, node: yaml.ScalarNode, path: FieldPath) -> bool:
        """Whether a text without quotes is a number, where numbers belong."""
        if node.tag != _TEXT_TAG or node.style or not EXPONENT.fullmatch(node.value):
            return False
        names = [fold(part) for part in path]
        return self.is_space or not _NUMBERS_BELOW.isdisjoint(names) or names[-1:] in ([name] for name in _NUMBERS_AT)


def _too_large(field_name: str, value: str) -> Problem:
    return Problem(field_name, f"must not be larger than {MAX_FILE_BYTES} bytes", value, "Is this the right file?")


def _malformed(file: str, kind: str, detail: str, line: int | None = None, remedy: str = "") -> ConfigError:
    rule = f"is not valid {kind}: {detail}"
    return ConfigError([Problem("", rule, None, remedy or "Correct the file", file or "config", line)])


def _error(path: Path, field_name: str, rule: str, remedy: str = "") -> ConfigError:
    return ConfigError([Problem(field_name, rule, str(path), remedy)])
