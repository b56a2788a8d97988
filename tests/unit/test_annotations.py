"""Annotations in trial code: the search space they are, the code they become, and what is refused."""

from __future__ import annotations

import ast
import sys
import types
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import yaml

from trialflow.annotations import AnnotatedFile, read_annotations
from trialflow.errors import ConfigError
from trialflow.experiment.loading import load_experiment
from trialflow.experiment.loading.annotated import carry_out_annotations
from trialflow.experiment.running import ExperimentSteps, TrialWatch
from trialflow.messages import Problem
from trialflow.records import JsonObject, Slot, Trial, TrialStatus
from trialflow.settings import Settings
from trialflow.staging import scan_code

CODE = '''\
"""A trial."""
from __future__ import annotations
import math  # a comment that stays

class Net:
    def __init__(self, size=5):
        """@nni.variable(nni.choice(2, 3, 5),
                         name=self.size)"""
        self.size = (size +
                     0)

def small(x): return x
def large(x): return x * 100

\'\'\'@nni.get_next_parameter()\'\'\'
\'\'\'@nni.variable(nni.loguniform(0.001, 0.1), name=lr)\'\'\'
lr = 0.1
\'\'\'@nni.variable(nni.choice(math.sqrt, abs, "none", -1), name=activation)\'\'\'
activation = abs
for step in range(2):
    """@nni.function_choice(small(lr), large(lr), name=small)"""
    loss = small(lr) + 1; done = True
    \'\'\'@nni.report_intermediate_result(loss)\'\'\'
    if step:
        """@nni.report_final_result({'default': loss, "size": Net().size})"""
'''
SPACE = {
    "pkg.main/lr/loguniform": {"_type": "loguniform", "_value": [0.001, 0.1]},
    "pkg.main/activation/choice": {"_type": "choice", "_value": ["math.sqrt", "abs", "none", -1]},
    "pkg.main/small/function_choice": {"_type": "choice", "_value": ["small(lr)", "large(lr)"]},
    "pkg.main/self.size/choice": {"_type": "choice", "_value": [2, 3, 5]},
}


def read(code: str | bytes, module: str = "pkg.main") -> AnnotatedFile:
    source = code if isinstance(code, bytes) else dedent(code).encode()
    return read_annotations(source, module, "/code/pkg/main.py")


def rewritten(code: str) -> str:
    found = read(code)
    assert found.problems == [], [str(problem) for problem in found.problems]
    assert found.code is not None
    return found.code.decode()


def problem_of(code: str | bytes) -> Problem:
    found = read(code)
    assert found.code is None
    (problem,) = found.problems
    assert problem.file == "/code/pkg/main.py"
    assert problem.remedy
    return problem


class Nni(types.ModuleType):
    """The `nni` module as NNI's own is: parameters are handed out once, and only then there are current ones."""

    def __init__(self, parameters: JsonObject) -> None:
        super().__init__("nni")
        self._given: JsonObject | None = parameters
        self._current: JsonObject | None = None
        self.reports: list[tuple[str, Any]] = []

    def get_next_parameter(self) -> JsonObject | None:
        self._current, self._given = self._given, None
        return self._current

    def get_current_parameter(self, tag: str | None = None) -> Any:
        return self._current if self._current is None or tag is None else self._current[tag]

    def report_intermediate_result(self, metric: Any) -> None:
        self.reports.append(("intermediate", metric))

    def report_final_result(self, metric: Any) -> None:
        self.reports.append(("final", metric))


def run(code: str, parameters: JsonObject, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Any], Nni]:
    """Run rewritten code with some parameters; gives its variables and what it reported."""
    nni = Nni(parameters)
    monkeypatch.setitem(sys.modules, "nni", nni)
    names: dict[str, Any] = {}
    exec(compile(rewritten(code), "main.py", "exec"), names)
    return names, nni


def test_the_annotations_are_the_search_space() -> None:
    assert read(CODE).search_space == SPACE


def test_the_rewritten_code_takes_its_values_from_the_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = {
        "pkg.main/lr/loguniform": 0.01,
        "pkg.main/activation/choice": "math.sqrt",
        "pkg.main/small/function_choice": "large(lr)",
        "pkg.main/self.size/choice": 3,
    }

    names, nni = run(CODE, parameters, monkeypatch)

    assert (names["lr"], names["activation"](9), names["loss"]) == (0.01, 3.0, 2.0)
    assert names["Net"]().size == 3
    assert nni.reports == [("intermediate", 2.0), ("intermediate", 2.0), ("final", {"default": 2.0, "size": 3})]


@pytest.mark.parametrize("chosen", ["none", -1])
def test_a_choice_may_mix_values_and_expressions(monkeypatch: pytest.MonkeyPatch, chosen: Any) -> None:
    parameters = {key: body["_value"][0] for key, body in SPACE.items()} | {"pkg.main/activation/choice": chosen}

    assert run(CODE, parameters, monkeypatch)[0]["activation"] == chosen


def test_every_line_keeps_its_number_and_its_comments() -> None:
    before, after = CODE.splitlines(), rewritten(CODE).splitlines()

    assert len(after) == len(before)
    changed = {number for number, pair in enumerate(zip(before, after, strict=True), 1) if pair[0] != pair[1]}
    assert changed == {9, 10, 15, 17, 19, 22, 23, 25}
    assert "; done = True" in after[21]


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_other_line_ends_are_kept(end: str) -> None:
    code = CODE.replace("\n", end)
    after = read(code.encode()).code

    assert after is not None
    assert len(after.decode().splitlines()) == len(CODE.splitlines())
    assert ast.dump(ast.parse(after)) == ast.dump(ast.parse(rewritten(CODE)))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "cp1252"])
def test_the_encoding_of_a_file_is_kept(encoding: str) -> None:
    cookie = "" if encoding.startswith("utf-8") else f"# coding: {encoding}\n"
    code = f"{cookie}é = 'é'; '''@nni.variable(nni.choice('ö', '\\u20ac'), name=x)'''\nx = 'ü'\n"

    found = read(code.encode(encoding))

    assert found.search_space["pkg.main/x/choice"]["_value"] == ["ö", "€"]
    assert found.code is not None
    text = found.code.decode(encoding)
    assert "é = 'é'; '''@nni" in text
    assert "'ü'" not in text
    compile(found.code, "main.py", "exec")


def test_a_file_without_annotations_stays_as_it_is() -> None:
    assert read("import nni\nnni.report_final_result(1)\n' @nni.variable is explained here'\n") == AnnotatedFile(
        {}, None, []
    )


FUNCTIONS: dict[str, list[Any]] = {
    "choice": [1, "a", True, None, 0.5],
    "randint": [0, 5],
    "uniform": [-1, 1.5],
    "quniform": [0, 10, 2],
    "loguniform": [1e-3, 1],
    "qloguniform": [1, 100, 5],
    "normal": [-1.5, 2],
    "qnormal": [0, 1, 0.5],
    "lognormal": [0, 1],
    "qlognormal": [0, 1, 2],
}


@pytest.mark.parametrize(("function", "arguments"), FUNCTIONS.items(), ids=FUNCTIONS)
def test_every_search_function_is_a_type_of_the_search_space(
    monkeypatch: pytest.MonkeyPatch, function: str, arguments: list[Any]
) -> None:
    code = f"'''@nni.variable(nni.{function}({', '.join(map(repr, arguments))}), name=x)'''\nx = 0\n"
    key = f"pkg.main/x/{function}"

    assert read(code).search_space == {key: {"_type": function, "_value": arguments}}
    assert run(code, {key: 7}, monkeypatch)[0]["x"] == 7


@pytest.mark.parametrize("target", ["x", "self.x", "params['lr']", "a.b[0].c"])
def test_a_variable_is_anything_that_can_be_assigned_to(target: str) -> None:
    code = f'"""@nni.variable(nni.uniform(0, 1), name={target})"""\n{target} = 1\n'

    assert list(read(code).search_space) == [f"pkg.main/{target}/uniform"]
    compile(rewritten(code), "main.py", "exec")


def test_the_same_variable_may_be_annotated_twice_the_same_way() -> None:
    once = "'''@nni.variable(nni.choice(1, 2), name=x)'''\nx = 0\n"

    assert len(read(once + once).search_space) == 1


def test_a_call_may_stand_deep_in_the_statement_below(monkeypatch: pytest.MonkeyPatch) -> None:
    code = """\
        def f(x): return 'f'
        def g(x): return 'g'
        '''@nni.function_choice(f(1), g(1), name=f)'''
        with open('/dev/null'):
            if True:
                x = [f(1) for _ in range(2)] + [(lambda: f(1))()]
        """
    key = "pkg.main/f/function_choice"

    with pytest.raises(AssertionError, match="none of its calls"):
        rewritten(code.replace("[f(1) for _ in range(2)] + [(lambda: f(1))()]", "str(f(1))"))
    assert run(code.replace(" + [(lambda: f(1))()]", ""), {key: "g(1)"}, monkeypatch)[0]["x"] == ["g", "g"]


def test_the_other_calls_are_not_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "'''@nni.function_choice(int('3'), int('no number'), name=int)'''\nx = int('3')\n"

    assert run(code, {"pkg.main/int/function_choice": "int('3')"}, monkeypatch)[0]["x"] == 3


def test_a_chosen_call_stands_in_the_scope_of_its_statement(monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
class Base:
    def f(self, x): return x + 1
class Sub(Base):
    size = 20
    '@nni.function_choice(int(size), str(size), name=f)'
    text = int(size)
    async def f(self, x):
        async def wait(y): return y
        '@nni.function_choice(super().f(await wait(x)), super().g(x), name=g)'
        return super().g(x)
import asyncio
x = asyncio.run(Sub().f(2))
"""
    keys = {"pkg.main/f/function_choice": "str(size)", "pkg.main/g/function_choice": "super().f(await wait(x))"}

    names = run(code, keys, monkeypatch)[0]

    assert (names["Sub"].text, names["x"]) == ("20", 3)
    with pytest.raises(KeyError, match="unknown"):
        run(code, {**keys, "pkg.main/f/function_choice": "unknown"}, monkeypatch)


def test_annotations_are_found_in_every_kind_of_block() -> None:
    one = "'''@nni.variable(nni.uniform(0, 1), name=x{})'''\n{}x{} = 1\n"
    blocks = [
        "def f():\n{}", "class A:\n{}", "if a:\n    pass\nelse:\n{}", "for a in b:\n    pass\nelse:\n{}",
        "while a:\n{}", "with a:\n{}", "try:\n{}except E:\n    pass\n", "try:\n    pass\nexcept E:\n{}",
        "try:\n    pass\nfinally:\n{}", "async def g():\n{}", "match a:\n  case 1:\n{}",
    ]  # fmt: skip
    code = "".join(
        block.format("    " + one.format(number, "    ", number)) for number, block in enumerate(blocks)
    )

    assert len(read(code).search_space) == len(blocks)


# code → the line, the start of the rule, the value, the start of the remedy
BAD: dict[str, tuple[str, int, str, str | None, str]] = {
    "no Python": ("x = 1\nnni. = 2\n", 2, "is not valid Python: ", None, "Correct the file"),
    "NUL": ("nni.x\0", 0, "is not valid Python: ", None, "Correct the file"),
    "no Python inside": ("'@nni.variable(nni.choice(1, name=x)'", 1, "is not valid Python: ", "…", "Correct the ann"),
    "unknown function": ("'@nni.variables(1)'", 1, "is no annotation that NNI knows", "…", "Write a call of one of"),
    "no call": ("'@nni.report_final_result'", 1, "is no annotation that NNI knows", "…", "Write a call of one of"),
    "two expressions": ("'@nni.get_next_parameter(); x'", 1, "is no annotation that NNI knows", "…", "Write a call"),
    "architecture search": ("'@nni.mutable_layers({})'", 1, "nni.mutable_layers searches for", None, "Remove it"),
    "training update": ("'@nni.training_update()'", 1, "nni.training_update searches for", None, "Remove it"),
    "no name": ("'@nni.variable(nni.uniform(0, 1))'\nx = 1", 1, "nni.variable takes the keyword name", "…", "Write"),
    "other keyword": ("'@nni.variable(nni.uniform(0, 1), id=x)'\nx = 1", 1, "nni.variable takes the", "…", "Write n"),
    "no function": ("'@nni.variable(1, name=x)'\nx = 1", 1, "nni.variable takes one function", "…", "Use one of nni."),
    "foreign function": ("'@nni.variable(f(1), name=x)'\nx = 1", 1, "nni.variable takes one function", "…", "Use on"),
    "two functions": (
        "'@nni.variable(nni.uniform(0, 1), nni.uniform(0, 1), name=x)'\nx = 1",
        1, "nni.variable takes one function", "…", "Use one of",
    ),
    "other variable": ("'@nni.variable(nni.uniform(0, 1), name=x)'\ny = 1", 1, "names x, but y is", None, "Write name"),
    "no assignment": ("'@nni.variable(nni.uniform(0, 1), name=x)'\nf(x)", 1, "nni.variable must stand", None, "Write"),
    "typed": ("'@nni.variable(nni.uniform(0, 1), name=x)'\nx: int = 1", 1, "nni.variable must stand", None, "Write x"),
    "two targets": ("'@nni.variable(nni.uniform(0, 1), name=x)'\nx = y = 1", 1, "nni.variable must", None, "Write x ="),
    "nothing below": ("if a:\n  '@nni.variable(nni.uniform(0, 1), name=x)'\nx = 1", 2, "has no statement", None, "Put"),
    "annotation below": (
        "'@nni.variable(nni.uniform(0, 1), name=x)'\n'@nni.get_next_parameter()'\nx = 1",
        1, "annotates another annotation", None, "Put it above",
    ),
    "no literal": ("'@nni.variable(nni.uniform(0, high), name=x)'\nx = 1", 1, "nni.uniform takes numb", "…", "Write"),
    "named bounds": ("'@nni.variable(nni.uniform(low=0, high=1), name=x)'\nx = 1", 1, "nni.uniform takes", "…", "Writ"),
    "bounds": (
        "y = 1\n'@nni.variable(nni.uniform(1, 0), name=x)'\nx = 1",
        2, "pkg.main/x/uniform: uniform [low, high]: low must not", "[1, 0]", "Swap",
    ),
    "arity": ("'@nni.variable(nni.randint(1, 2, 3), name=x)'\nx = 1", 1, "pkg.main/x/randint: randint needs", "…", ""),
    "infinite": ("'@nni.variable(nni.choice(1e999), name=x)'\nx = 1", 1, "pkg.main/x/choice: options must", "…", "Rem"),
    "no options": ("'@nni.variable(nni.choice(), name=x)'\nx = 1", 1, "nni.choice takes its options", "…", "List"),
    "starred": ("'@nni.variable(nni.choice(*a), name=x)'\nx = 1", 1, "nni.choice takes its options", "…", "List them"),
    "same options": ("'@nni.variable(nni.choice(a, \"a\"), name=x)'\nx = 1", 1, "two options read the sam", "…", "Rem"),
    "two spaces": (
        "'@nni.variable(nni.choice(1), name=x)'\nx = 1\n'@nni.variable(nni.choice(2), name=x)'\nx = 1",
        3, "differs from the annotation of the same name in line 1", "[2]", "Give both",
    ),
    "no calls": ("'@nni.function_choice(f, g, name=f)'\nf(1)", 1, "nni.function_choice takes calls", "…", "Write f(x)"),
    "same calls": ("'@nni.function_choice(f(), f(), name=f)'\nf()", 1, "two of the options are the", "…", "Remove"),
    "another call": ("'@nni.function_choice(f(1), g(1), name=f)'\nf(2)", 1, "none of its calls stands", "…", "Assign"),
    "nested call": ("'@nni.function_choice(f(1), g(1), name=f)'\nh(f(1))", 1, "none of its calls", "…", "Assign the"),
    "in an f-string": ("'@nni.function_choice(f(1), g(1), name=f)'\nx = f'{f(1)}'", 1, "none of its", "…", "Assign"),
    "annotations inside": (
        "'@nni.function_choice(f(1), g(1), name=f)'\nif f(1):\n  '@nni.get_next_parameter()'",
        1, "the statement below it holds annotations", None, "Put it above",
    ),
    "no metric": ("'@nni.report_final_result()'", 1, "nni.report_final_result takes one argument", "…", "Give it the"),
    "two metrics": ("'@nni.report_intermediate_result(a, b)'", 1, "nni.report_intermediate_result takes", "…", "Give"),
    "parameter of what": ("'@nni.get_next_parameter(1)'", 1, "nni.get_next_parameter takes no arg", "…", "Remove them"),
    "before an import from the future": (
        "'@nni.get_next_parameter()'\nfrom __future__ import annotations\n",
        2, "is not valid Python once its annotations are carried out: ", None, "Move the annotation",
    ),
    "direct call": ("x = nni.uniform(0, 1)", 1, "nni.uniform is called directly", None, "Write it as an annotation"),
}  # fmt: skip


@pytest.mark.parametrize(("code", "line", "rule", "value", "remedy"), BAD.values(), ids=BAD)
def test_a_bad_annotation_is_refused_with_file_line_rule_value_and_remedy(
    code: str, line: int, rule: str, value: str | None, remedy: str
) -> None:
    problem = problem_of(code)

    assert problem.rule.startswith(rule)
    assert (problem.line or 0) == line
    assert (problem.value is None) == (value is None)
    assert value in (None, "…", problem.value)
    assert problem.remedy.startswith(remedy)


def test_every_bad_annotation_of_a_file_is_listed() -> None:
    found = read("'@nni.foo()'\n'@nni.variable(nni.uniform(1, 0), name=x)'\nx = 1\n'@nni.variable(1)'\n")

    assert [problem.line for problem in found.problems] == [1, 4, 2]


def test_a_warning_about_the_users_code_is_none_of_ours() -> None:
    assert read(b"'@nni.get_next_parameter()'\nx = '\\d'\n").problems == []


# ── experiments ──────────────────────────────────────────────────────────────────────────────────────────────

CONFIG: JsonObject = {
    "trialCommand": f"{sys.executable} main.py",
    "trialCodeDirectory": "code",
    "trialConcurrency": 1,
    "maxTrialNumber": 2,
    "useAnnotation": True,
    "tuner": {"name": "Random"},
    "trainingService": {"platform": "local"},
}
TRIAL = """\
from sub.lib import twice
'''@nni.variable(nni.choice(1, 2, 3), name=x)'''
x = 0
'''@nni.report_final_result(twice(x))'''
"""
LIBRARY = """\
def twice(x):
    '''@nni.variable(nni.choice(2), name=factor)'''
    factor = 0
    return factor * x
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", trial_sdk="own")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    project = tmp_path / "project"
    (project / "code" / "sub").mkdir(parents=True)
    (project / "code" / "main.py").write_text(TRIAL)
    (project / "code" / "sub" / "lib.py").write_text(LIBRARY)
    (project / "code" / "notes.txt").write_text("'@nni.foo()'")
    (project / "code" / "ignored.py").write_text("'@nni.foo()'")
    (project / "code" / ".nniignore").write_text("ignored.py\n")
    (project / "config.yml").write_text(yaml.safe_dump(CONFIG))
    return project


def problems_of(project: Path, settings: Settings) -> list[Problem]:
    with pytest.raises(ConfigError) as raised:
        load_experiment(str(project / "config.yml"), settings)
    return list(raised.value.problems)


def test_the_search_space_is_read_off_every_file_that_is_staged(project: Path, settings: Settings) -> None:
    assert load_experiment(str(project / "config.yml"), settings).search_space == {
        "main/x/choice": {"_type": "choice", "_value": [1, 2, 3]},
        "sub.lib/factor/choice": {"_type": "choice", "_value": [2]},
    }


def test_code_without_a_parameter_is_refused(project: Path, settings: Settings) -> None:
    (project / "code" / "main.py").write_text("'@nni.report_final_result(1)'")
    (project / "code" / "sub" / "lib.py").unlink()

    (problem,) = problems_of(project, settings)

    assert (problem.field, problem.file) == ("useAnnotation", str(project / "config.yml"))
    assert problem.rule.startswith("needs a search space")


def test_a_bad_annotation_is_named_with_the_file_it_stands_in(project: Path, settings: Settings) -> None:
    (project / "code" / "sub" / "lib.py").write_text("x = 1\n'@nni.foo()'\n")

    (problem,) = problems_of(project, settings)

    assert str(problem).startswith(f"{project}/code/sub/lib.py:2: annotation: is no annotation that NNI knows; got ")


def test_an_annotated_experiment_runs_and_the_users_files_stay(project: Path, settings: Settings) -> None:
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    spec = load_experiment(str(project / "config.yml"), settings)
    steps = ExperimentSteps.create("expannot", spec, settings)
    place = Path(steps.stage_code())
    steps.start()
    trial = steps.trials.suggest(Slot(1, 0), "run")
    assert isinstance(trial, Trial)
    watch = TrialWatch(steps.context, trial)
    while (ended := watch.poll()) is None:
        pass

    assert (ended.status, ended.value) == (TrialStatus.SUCCEEDED, 2 * trial.parameters["main/x/choice"])  # type: ignore[index]
    assert sorted(path.name for path in place.rglob("*") if path.is_file() and path.suffix != ".pyc") == [
        "lib.py",
        "main.py",
        "notes.txt",
    ]
    assert (place / "main.py").read_text() != TRIAL
    assert {path: path.read_bytes() for path in project.rglob("*") if path.is_file()} == before
    steps.trials.report(ended)


def test_the_place_of_staged_code_follows_from_what_was_written_there(project: Path, settings: Settings) -> None:
    spec = load_experiment(str(project / "config.yml"), settings)
    files, _ = scan_code(project / "code", project, 1 << 20, 100)

    carried_out = carry_out_annotations(files, spec.search_space)

    assert [file.name for file in carried_out] == [file.name for file in files]
    changed = {old.name for old, new in zip(files, carried_out, strict=True) if old.digest != new.digest}
    assert changed == {"main.py", "sub/lib.py"}
    assert all(new.size == len(new.content) for new in carried_out if new.content is not None)


def test_annotations_that_changed_after_the_experiment_was_loaded_are_refused(
    project: Path, settings: Settings
) -> None:
    spec = load_experiment(str(project / "config.yml"), settings)
    steps = ExperimentSteps.create("expannot", spec, settings)
    (project / "code" / "main.py").write_text(TRIAL.replace("1, 2, 3", "1, 2"))

    with pytest.raises(ConfigError, match="the annotations have changed since the experiment was loaded"):
        steps.stage_code()
    assert list((settings.home / "experiments" / "expannot").iterdir()) == []


FUNCTIONS = """
def f(x): return x
'@nni.variable(nni.choice("2", 3, 5 * 6, [1, 2], not 0), name=size)'
size = 5
'@nni.function_choice(f(1), 2 * 3 + 4, lambda x: 1 + x, f(2), name=f)'
made = f(1)
"""


def test_options_may_be_any_expressions_and_are_called_as_nni_calls_them() -> None:
    assert read(FUNCTIONS).search_space == {
        "pkg.main/size/choice": {"_type": "choice", "_value": ["2", 3, "(5 * 6)", "[1, 2]", "(not 0)"]},
        "pkg.main/f/function_choice": {
            "_type": "choice", "_value": ["f(1)", "(2 * 3 + 4)", "(lambda x: 1 + x)", "f(2)"]
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    ("size", "function", "found"),
    [("(5 * 6)", "f(2)", (30, 2)), ("[1, 2]", "(2 * 3 + 4)", ([1, 2], 10)), ("2", "f(1)", ("2", 1))],
)
def test_an_expression_that_was_chosen_is_evaluated(
    size: Any, function: str, found: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = {"pkg.main/size/choice": size, "pkg.main/f/function_choice": function}

    names, _ = run(FUNCTIONS, parameters, monkeypatch)

    assert (names["size"], names["made"]) == found


def test_a_function_that_was_chosen_is_the_value(monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = {"pkg.main/size/choice": 3, "pkg.main/f/function_choice": "(lambda x: 1 + x)"}

    assert run(FUNCTIONS, parameters, monkeypatch)[0]["made"](2) == 3
