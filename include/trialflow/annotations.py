"""NNI's annotations: strings in the trial's code that are the search space and say where its values go.

    '''@nni.variable(nni.choice(50, 250, 500), name=batch_size)'''
    batch_size = 128

What a file's annotations ask for is carried out in place: the right side of the assignment, the call that is one of
several, or the annotation itself where it reports a metric gives way to an expression. Everything else stays, and every
line keeps its number, so that a traceback of the trial leads into the user's own file. The expressions import ``nni``
themselves, for a line with an import would shift those below it, and they use nothing of it but what every version of
NNI's own module has.

A parameter is called ``module/name/function``, as NNI calls it: ``sub.main/batch_size/choice``.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trialflow.messages import Problem, show
from trialflow.records import JsonObject
from trialflow.search_space import TYPES, parse_search_space

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_MARK = "@nni."
_VARIABLE, _FUNCTION_CHOICE, _NEXT = "variable", "function_choice", "get_next_parameter"
_REPORTS = ("report_intermediate_result", "report_final_result")
_ARCHITECTURE_SEARCH = ("mutable_layers", "training_update")
_KNOWN = (_VARIABLE, _FUNCTION_CHOICE, *_REPORTS, _NEXT)
_NO_PYTHON = (SyntaxError, ValueError, RecursionError, MemoryError)
_NEWLINE = re.compile(rb"\r\n|\r|\n")
# Asked for once, whoever comes first: NNI's own module hands parameters out a single time.
_PARAMETERS = "(__import__('nni').get_current_parameter() or __import__('nni').get_next_parameter())"


@dataclass(frozen=True)
class AnnotatedFile:
    """What the annotations of one file amount to.

    Attributes:
        search_space: In the form of a search space file.
        code: The file with its annotations carried out; ``None`` when it has none.
        problems: Everything that is wrong with them.
    """

    search_space: JsonObject
    code: bytes | None
    problems: list[Problem]


def read_annotations(source: bytes, module: str, file: str) -> AnnotatedFile:
    """Read the annotations of a Python file.

    Args:
        source: Its content.
        module: Its dotted name below the code folder.
        file: Its path, for messages.
    """
    if b"nni." not in source:
        return AnnotatedFile({}, None, [])
    try:
        encoding = tokenize.detect_encoding(io.BytesIO(source).readline)[0]
        text = source.decode(encoding)
        tree = _compiled(text, file, ast.PyCF_ONLY_AST)
    except _NO_PYTHON as error:
        return AnnotatedFile({}, None, [_no_python(error, "is not valid Python", "Correct the file", file)])
    reader = _Reader(module, file)
    reader.visit(tree)
    reader.check_search_space()
    if not reader.is_annotated or reader.problems:
        return AnnotatedFile(reader.search_space, None, reader.problems)
    rewritten = _rewrite(text.encode(), reader.edits).decode()
    try:
        _compiled(rewritten, file)
    except _NO_PYTHON as error:
        rule = "is not valid Python once its annotations are carried out"
        problem = _no_python(error, rule, "Move the annotation in this line or above it", file)
        return AnnotatedFile(reader.search_space, None, [problem])
    # What the encoding lacks can only stand in a string, where an escape says the same.
    return AnnotatedFile(reader.search_space, rewritten.encode(encoding, errors="backslashreplace"), [])


def _compiled(text: str, file: str, flags: int = 0) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # About the user's code, which is not ours to judge.
        return compile(text, file, "exec", flags, dont_inherit=True)


def _no_python(error: BaseException, rule: str, remedy: str, file: str) -> Problem:
    line = error.lineno if isinstance(error, SyntaxError) else None
    return Problem("", f"{rule}: {getattr(error, 'msg', None) or error}", None, remedy, file, line)


class _RefusedError(Exception):
    """Something is wrong with the annotation at hand."""

    def __init__(self, rule: str, remedy: str, value: str | None = None) -> None:
        super().__init__(rule)
        self.rule, self.remedy, self.value = rule, remedy, value


@dataclass(frozen=True)
class _Annotation:
    """A call of one of NNI's functions in a string."""

    name: str
    call: ast.Call
    statement: ast.stmt


@dataclass
class _Reader:
    module: str
    file: str
    search_space: JsonObject = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    edits: list[tuple[ast.AST, str]] = field(default_factory=list)
    is_annotated: bool = False
    _lines: dict[str, int] = field(default_factory=dict)

    def visit(self, tree: ast.AST) -> None:
        """Read every annotation of a module, and refuse search functions that are called outside of one."""
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and (name := _nni_function(node)) in (*TYPES, _FUNCTION_CHOICE):
                rule = f"nni.{name} is called directly, which is understood, but not built yet"
                self._refuse(node.lineno, rule, "Write it as an annotation, in a string above the assignment")
        for body in _bodies(tree):
            self._visit_body(body)

    def check_search_space(self) -> None:
        """Check what the functions were given, as in a search space file."""
        for key, body in self.search_space.items():
            for found in parse_search_space({key: body})[1]:
                self._refuse(self._lines[key], f"{key}: {found.rule}", found.remedy, found.value)

    def _visit_body(self, body: Sequence[ast.stmt]) -> None:
        """Visit statements that follow each other; an annotation of one stands directly above it."""
        pending: _Annotation | None = None
        for statement in body:
            text = _annotation_text(statement)
            if text is None:
                if pending is not None:
                    self._apply(pending, statement)
                if pending is None or pending.name == _VARIABLE:
                    for inner in _bodies(statement):
                        self._visit_body(inner)
                pending = None
                continue
            self.is_annotated = True
            if pending is not None:
                self._refuse(pending.statement.lineno, "annotates another annotation", "Put it above a statement")
            pending = self._start(statement, text)
        if pending is not None:
            self._refuse(pending.statement.lineno, "has no statement below it", "Put it above the one that it is about")

    def _start(self, statement: ast.stmt, text: str) -> _Annotation | None:
        """Carry an annotation out that stands for itself, or give the one that is about the next statement."""
        try:
            annotation = _parse(statement, text)
            if annotation.name in (_VARIABLE, _FUNCTION_CHOICE):
                return annotation
            self.edits.append((statement, _call_text(annotation)))
        except _RefusedError as refused:
            self._refuse(statement.lineno, refused.rule, refused.remedy, refused.value)
        return None

    def _apply(self, annotation: _Annotation, statement: ast.stmt) -> None:
        try:
            if annotation.name == _VARIABLE:
                self._apply_variable(annotation, statement)
            else:
                self._apply_function_choice(annotation, statement)
        except _RefusedError as refused:
            self._refuse(annotation.statement.lineno, refused.rule, refused.remedy, refused.value)

    def _apply_variable(self, annotation: _Annotation, statement: ast.stmt) -> None:
        target, arguments = _name_and_arguments(annotation)
        if len(arguments) != 1 or not isinstance(arguments[0], ast.Call) or _nni_function(arguments[0]) not in TYPES:
            raise _RefusedError(
                "nni.variable takes one function that says how to search",
                f"Use one of {', '.join(f'nni.{kind}' for kind in TYPES)}", _shown(annotation.call),
            )  # fmt: skip
        if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
            raise _RefusedError(
                "nni.variable must stand above an assignment to one variable", f"Write {target} = … below it"
            )
        if ast.unparse(statement.targets[0]) != target:
            written = ast.unparse(statement.targets[0])
            raise _RefusedError(f"names {target}, but {written} is assigned below it", f"Write name={written}")
        function = arguments[0]
        kind = _nni_function(function)
        values, expressions = _options(function) if kind == "choice" else (_numbers(function), None)
        parameter = self._add(annotation, target, kind, {"_type": kind, "_value": values})
        if expressions is not None:
            pairs = ", ".join(f"{key!r}: {text}" for key, text in zip(values, expressions, strict=True))
            parameter = f"{{{pairs}}}[{parameter}]"
        self.edits.append((statement.value, parameter))

    def _apply_function_choice(self, annotation: _Annotation, statement: ast.stmt) -> None:
        name, options = _name_and_arguments(annotation)
        calls = [option for option in options if isinstance(option, ast.Call)]
        if not calls or any(isinstance(option, ast.Starred) for option in options):
            raise _RefusedError(
                "nni.function_choice takes calls of functions", "Write f(x), g(x), name=f", _shown(annotation.call)
            )
        texts = [_name_of(option) for option in options]
        if len(set(texts)) < len(texts):
            raise _RefusedError("two of the options are the same", "Remove one of them", show(texts))
        if any(_annotation_text(inner) is not None for body in _bodies(statement) for inner in _walk_body(body)):
            raise _RefusedError(
                "the statement below it holds annotations of its own", "Put it above the statement with the call"
            )
        found = list(_find_calls(statement, {ast.dump(call) for call in calls}))
        if not found:
            raise _RefusedError(
                "none of its calls stands in the statement below it, outside of other calls",
                "Assign the call to a variable of its own, and write it the same way in both places", show(texts),
            )  # fmt: skip
        parameter = self._add(annotation, name, _FUNCTION_CHOICE, {"_type": "choice", "_value": texts})
        # Conditions, for in a lambda neither await nor super() nor the names of a class's body would be the same.
        cases = [
            f"({ast.unparse(option)}) if {parameter} == {text!r}" for option, text in zip(options, texts, strict=True)
        ]
        chosen = " else ".join([*cases, f"{{}}[{parameter}]"])
        self.edits += [(call, f"({chosen})") for call in found]

    def _add(self, annotation: _Annotation, name: str, function: str, body: JsonObject) -> str:
        """Add a parameter to the search space; gives the expression for its value."""
        key = f"{self.module}/{name}/{function}"
        if self.search_space.setdefault(key, body) != body:
            first = self._lines[key]
            raise _RefusedError(
                f"differs from the annotation of the same name in line {first}",
                "Give both the same arguments, or use another name", show(body["_value"]),
            )  # fmt: skip
        self._lines.setdefault(key, annotation.statement.lineno)
        return f"{_PARAMETERS}[{key!r}]"

    def _refuse(self, line: int, rule: str, remedy: str, value: str | None = None) -> None:
        self.problems.append(Problem("annotation", rule, value, remedy, self.file, line))


def _annotation_text(statement: ast.stmt) -> str | None:
    """The text of a string that stands for itself and is an annotation, without the ``@``."""
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        text = statement.value.value
        if isinstance(text, str) and text.startswith(_MARK):
            return text[1:]
    return None


def _parse(statement: ast.stmt, text: str) -> _Annotation:
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError) as error:
        rule = f"is not valid Python: {getattr(error, 'msg', error)}"
        raise _RefusedError(rule, "Correct the annotation", show(text)) from error
    call = body[0].value if len(body) == 1 and isinstance(body[0], ast.Expr) else None
    name = _nni_function(call) if isinstance(call, ast.Call) else ""
    if name in _ARCHITECTURE_SEARCH:
        rule = f"nni.{name} searches for an architecture, which is not built"
        raise _RefusedError(rule, "Remove it, and choose among functions with nni.function_choice")
    if not isinstance(call, ast.Call) or name not in _KNOWN:
        known = ", ".join(f"nni.{known}" for known in _KNOWN)
        raise _RefusedError("is no annotation that NNI knows", f"Write a call of one of {known}", show(f"@{text}"))
    return _Annotation(name, call, statement)


def _call_text(annotation: _Annotation) -> str:
    """The code for an annotation that is a call by itself."""
    arguments = [*annotation.call.args, *annotation.call.keywords]
    expected = int(annotation.name != _NEXT)
    if len(arguments) != expected:
        rule = f"nni.{annotation.name} takes {'one argument' if expected else 'no arguments'}"
        raise _RefusedError(rule, "Give it the metric" if expected else "Remove them", _shown(annotation.call))
    if not expected:
        return _PARAMETERS
    return f"__import__('nni').{ast.unparse(annotation.call).removeprefix('nni.')}"


def _name_and_arguments(annotation: _Annotation) -> tuple[str, list[ast.expr]]:
    keywords = annotation.call.keywords
    if [keyword.arg for keyword in keywords] != ["name"]:
        raise _RefusedError(
            f"nni.{annotation.name} takes the keyword name and no other", "Write name=… as the last argument",
            _shown(annotation.call),
        )  # fmt: skip
    return ast.unparse(keywords[0].value), annotation.call.args


def _numbers(function: ast.Call) -> list[float]:
    """The arguments of a search function other than choice."""
    values = [_literal(argument) for argument in function.args]
    if function.keywords or not all(isinstance(value, (int, float)) for value in values):
        name = _nni_function(function)
        raise _RefusedError(f"nni.{name} takes numbers, written out", "Write them in order", _shown(function))
    return values


def _options(function: ast.Call) -> tuple[list[Any], list[str] | None]:
    """The options of a choice, as values of the parameter and as code; no code when they are the values themselves.

    A number, a text, True, False and None are options by themselves; anything else goes by its source text.
    """
    if function.keywords or not function.args or any(isinstance(option, ast.Starred) for option in function.args):
        raise _RefusedError("nni.choice takes its options one by one", "List them, without names", _shown(function))
    values = [_name_of(option) if _literal(option) is _NO_LITERAL else _literal(option) for option in function.args]
    if all(_literal(option) is not _NO_LITERAL for option in function.args):
        return values, None
    if len(set(values)) < len(values):
        raise _RefusedError("two options read the same", "Remove or rename one of them", show(values))
    return values, [ast.unparse(option) for option in function.args]


def _name_of(option: ast.expr) -> str:
    """An option's source text as NNI writes it: what holds an operator stands in parentheses."""
    text = ast.unparse(option)
    return f"({text})" if isinstance(option, _WITH_OPERATOR) else text


_WITH_OPERATOR = (ast.BinOp, ast.BoolOp, ast.UnaryOp, ast.Compare, ast.Lambda, ast.IfExp)
_NO_LITERAL = object()


def _literal(expression: ast.expr) -> Any:
    """The value of a JSON scalar that is written out, or `_NO_LITERAL`."""
    try:
        value = ast.literal_eval(expression)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return _NO_LITERAL
    return value if value is None or isinstance(value, (bool, int, float, str)) else _NO_LITERAL


def _nni_function(call: ast.Call) -> str:
    """``f`` in a call of ``nni.f``; empty for other calls."""
    function = call.func
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) and function.value.id == "nni":
        return function.attr
    return ""


def _bodies(node: ast.AST) -> Iterator[list[ast.stmt]]:
    """The lists of statements directly inside a node."""
    for _, value in ast.iter_fields(node):
        if isinstance(value, list) and value:
            if isinstance(value[0], ast.stmt):
                yield value
            elif isinstance(value[0], (ast.ExceptHandler, ast.match_case)):
                for item in value:
                    yield from _bodies(item)


def _walk_body(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        yield statement
        for inner in _bodies(statement):
            yield from _walk_body(inner)


def _find_calls(node: ast.AST, wanted: set[str]) -> Iterator[ast.Call]:
    """The calls that are wanted, where NNI looks for them: not inside other calls."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call):
            if ast.dump(child) in wanted:
                yield child
        elif not isinstance(child, ast.JoinedStr):  # Places inside an f-string are not known before Python 3.12.
            yield from _find_calls(child, wanted)


def _shown(call: ast.Call) -> str:
    return show(ast.unparse(call))


def _rewrite(source: bytes, edits: Sequence[tuple[ast.AST, str]]) -> bytes:
    """Put a text in the place of each node; a node of several lines is replaced by as many."""
    starts = [0, *(match.end() for match in _NEWLINE.finditer(source))]
    spans = []
    for node, text in edits:
        assert isinstance(node, (ast.expr, ast.stmt))
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start, end = starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset
        line_ends = "\n" * (node.end_lineno - node.lineno)
        spans.append((start, end, f"({text}{line_ends})".encode()))
    for start, end, replacement in sorted(spans, reverse=True):
        source = source[:start] + replacement + source[end:]
    return source
