"""The nodes of a YAML document, and values made of them, in a time that grows with the text alone.

PyYAML's own reader is NNI's, so it reads what people write. It takes seconds for a text of the largest size, and such a
text goes through libyaml, whose own way to make nodes would overflow its stack where lists are nested deeply.
"""

from __future__ import annotations

import re
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.resolver import Resolver
from yaml.scanner import Scanner

# Aliases let a small file stand for a huge tree; no real experiment comes near this.
MAX_NODES = 50_000
MAX_DEPTH = 100
# Beyond it no number has a float; Python itself takes a time that grows with the square for one in decimals.
MAX_DIGITS = 300
TOO_DEEP = "it is nested too deeply"
TOO_LONG = f"a number must not have more than {MAX_DIGITS} digits"
_LONGEST_FOR_PYTHON = 1 << 16
# Keys are nodes, too; who counts values asks a second time.
_MOST_MADE = 2 * MAX_NODES
# libyaml compares each of a document's directives with all before it.
_DIRECTIVE = re.compile("[\n\r\x85\u2028\u2029]%")
_MOST_DIRECTIVES = 100


class _Bounded(Composer):
    """Makes nodes of a parser's events, up to a number; too many in each other end with a `RecursionError`."""

    made = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.made += 1
        if self.made > _MOST_MADE:
            raise ValueError(f"it stands for more than {MAX_NODES} values")
        return super().compose_node(parent, index)


class _PythonNodes(Reader, Scanner, Parser, _Bounded, Resolver):
    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        Resolver.__init__(self)


_nodes_of_large: Any = _PythonNodes
if yaml.__with_libyaml__:
    from yaml.cyaml import CParser  # type: ignore[attr-defined]  # that is its place in the documentation

    class _FastNodes(_Bounded, CParser, Resolver):
        def __init__(self, text: str) -> None:
            CParser.__init__(self, text)
            Composer.__init__(self)
            Resolver.__init__(self)

    _nodes_of_large = _FastNodes


def compose(text: str) -> yaml.Node | None:
    """The root of the one document in a text; ``None`` for an empty text.

    Raises:
        YAMLError: The text is malformed.
        ValueError: It holds more values than any experiment.
        RecursionError: They lie too deeply in each other.
    """
    if len(_DIRECTIVE.findall(text)) > _MOST_DIRECTIVES:
        raise ValueError(f"it must not have more than {_MOST_DIRECTIVES} directives")
    reader = _PythonNodes if len(text) <= _LONGEST_FOR_PYTHON else _nodes_of_large
    root: yaml.Node | None = reader(text).get_single_node()
    return root


def construct(root: yaml.Node) -> Any:
    """The values of nodes.

    Raises:
        ValueError: One cannot have the type that its tag names.
    """
    try:
        return yaml.constructor.SafeConstructor().construct_document(root)
    except (AttributeError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise ValueError("a value does not have the type that its tag names") from error


def require_bounded(data: Any) -> None:
    """Check what came as values, not as a text, or was read by a parser that knows no bounds.

    Raises:
        ValueError: It is nested too deeply, or holds a number that is too long.
    """
    level = [data]
    for _ in range(MAX_DEPTH + 1):
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                inner += value.values()
            elif isinstance(value, list):
                inner += value
            elif isinstance(value, int) and abs(value) >= 10**MAX_DIGITS:
                raise ValueError(TOO_LONG)
        if not inner:
            return
        level = inner
    raise ValueError(TOO_DEEP)
