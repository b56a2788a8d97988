"""What people mostly did when a file cannot be read, and what to do about it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from trialflow.messages import BLANK_MISSING

if TYPE_CHECKING:
    import json
    from pathlib import Path

    import yaml

_TWO_COLONS = re.compile(r"\s*(?:-\s+)*([\w.\-\"']+):\s+([^\s\"'\[{|>&*!#].*:(?:\s.*|$))")
# An escape outside of quotes is one of a text that has no end; without passing it by, each quote in it would be tried.
_QUOTED_OR_TAB = re.compile(r"""("(?:\\.|[^"\\\n])*"|'[^'\n]*'|\\[^\t\n])|\t""")
_COMMENTS = re.compile(r"\s*(?:#[^\n]*\n\s*)*")
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_HIGH_BYTES = re.compile(rb"[\x80-\xff]+")
# What cannot begin a value without quotes.
_RESERVED = ("@", "`", "%")
_ABOUT_COLONS = ("':'", "mapping values are not allowed", "block end", "simple key")
_COMMA = "Put a comma between two values, and close every bracket and quote"
_REMEDIES = {
    r"'\t'": "YAML takes no tabs outside of quotes: write blanks instead",
    "unknown escape": "Write the text in single quotes, in which a backslash is a backslash",
    "stands twice": "Remove one of the two",
    "expected ',' or": _COMMA,
    "while scanning a quoted scalar": "Close the quote",
    "unexpected end of stream": "Close the quote",
}


def looks_like_json(text: str) -> bool:
    """Whether a text begins as a JSON object or list does, comments aside."""
    comments = _COMMENTS.match(text)
    return text[comments.end() if comments else 0 :][:1] in ("{", "[")


def without_tabs(text: str) -> str:
    """A text that looks like JSON, with blanks for tabs outside of quotes: JSON takes tabs there, and YAML does not."""
    return _QUOTED_OR_TAB.sub(lambda found: found[1] or " ", text)


def explain(error: yaml.MarkedYAMLError, text: str) -> str:
    """What to do about a text that is not valid YAML; empty when that is anybody's guess."""
    problem, mark = error.problem or "", error.problem_mark
    if mark is None:
        return ""
    lines = [*text.splitlines(), "", ""]
    line = lines[min(mark.line, len(lines) - 1)]
    if any(written.lstrip().startswith(("//", "/*")) for written in lines):
        return "Begin comments with #"
    if "cannot start any token" in problem and line[mark.column : mark.column + 1] in _RESERVED:
        return f"Put the value in quotes: no text begins with {line[mark.column]} without them"
    if "mapping values are not allowed" in problem and (found := _TWO_COLONS.fullmatch(line)):
        return f"Put the value in quotes, for it holds a colon and a blank: {found[1]}: {_quoted(found[2])}"
    known = next((remedy for part, remedy in _REMEDIES.items() if part in problem), "")
    is_about_colon = not known and any(part in problem for part in _ABOUT_COLONS)
    return _explain_colon(lines, mark.line) if is_about_colon else known


def explain_json(error: json.JSONDecodeError, text: str) -> str:
    """The same of a text that looks like JSON; there may be comments in it, as YAML has them."""
    if "//" in text[: error.pos + 2].rpartition("\n")[2] or text[error.pos : error.pos + 2] in ("//", "/*"):
        return "Begin comments with #"
    if "':' delimiter" in error.msg:
        return "Put a colon between a key and its value"
    return _COMMA if "',' delimiter" in error.msg or "Extra data" in error.msg else ""


def _explain_colon(lines: list[str], index: int) -> str:
    """YAML misses a colon or did not expect one: a blank is missing there or above, or an indentation is wrong."""
    for number in range(min(index, len(lines) - 1), max(-1, index - 5), -1):
        found = BLANK_MISSING.fullmatch(lines[number].strip())
        if found and " " not in found[2]:
            return f"Write a blank after the colon in line {number + 1}: {found[2]}: {found[3]}"
    line = lines[index].strip() if index < len(lines) else ""
    if re.match(r"[\w-]+:(\s|$)", line):
        return "Indent the keys of one section alike, and close every bracket and quote above this line"
    return ""


def _quoted(value: str) -> str:
    value = value.strip()
    return f'"{value}"' if "'" in value and '"' not in value else "'{}'".format(value.replace("'", "''"))


def explain_encoding(content: bytes, error: UnicodeDecodeError, path: Path) -> tuple[str, str]:
    """Of a file that is not UTF-8, the rule with the encoding that it seems to have, and how to convert it."""
    encoding = _guess_encoding(content)
    if not encoding:
        return f"must be UTF-8 text; byte {error.start} is {content[error.start]:#04x}", "Is this the right file?"
    name = {"ISO-8859-1": "Latin-1 (ISO-8859-1)"}.get(encoding, encoding)
    command = f"iconv -f {encoding} -t UTF-8 {path.name} > new-{path.name}"
    return f"must be UTF-8 text; it seems to be {name}", f"Save it as UTF-8, or convert it: {command}"


def _guess_encoding(content: bytes) -> str:
    """The encoding of a text that is not UTF-8; empty for what seems to be no text."""
    if content[:2] in _UTF_16:
        return "UTF-16"
    if b"\0" in content:
        return ""
    runs = _HIGH_BYTES.findall(content)
    try:
        content.decode("gbk")
    except UnicodeDecodeError:
        return "ISO-8859-1"
    # A character of GBK's usual part is two high bytes; letters of Western languages mostly stand alone.
    return "GBK" if all(len(run) % 2 == 0 for run in runs) else "ISO-8859-1"
