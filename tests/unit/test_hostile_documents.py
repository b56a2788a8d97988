"""Documents made to take time or memory, or to make whoever reads them fail: each gets an answer, and soon."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from trialflow.config import AllowedRoots, parse_experiment
from trialflow.config import nodes as node_module
from trialflow.config.source import MAX_FILE_BYTES, parse_text, take_object
from trialflow.errors import ConfigError
from trialflow.experiment.loading import load_experiment
from trialflow.search_space import parse_search_space
from trialflow.settings import Settings

from .lab import EXPERIMENT

KEYS = ",".join(f'"k{number}": 1' for number in range(50_000))
UNKNOWN = "".join(f"unknown{number}: 1\n" for number in range(20_000))
# Of processor time; each took many times as long, or had no end.
SECONDS = 3.0
DOCUMENTS = {
    "a key twice": (f'{{{KEYS}, "k49999": 1}}', "the key 'k49999' stands twice"),
    "a key twice, first": (f'{{"k7": 1, {KEYS}}}', "the key 'k7' stands twice"),
    "block YAML": ("".join(f"k{n}: [1, 2, 'x']\n" for n in range(40_000)), "more than 50000 values"),
    "quotes": ('{"a": "' + '\\"' * 500_000, "Close the quote"),
    "lists in lists": ("[" * 1_000_000, "nested too deeply"),
    "lists in lists, as YAML": ("a: " + "[" * 1_000_000, "nested too deeply"),
    "objects in objects": ('{"a":' * 170_000, "nested too deeply"),
    "101 lists": ("[" * 102 + "]" * 102, "nested too deeply"),
    "101 lists, as YAML": ("a: " + "[" * 101 + "]" * 101, "nested too deeply"),
    "dashes": ("- " * 500_000, "nested too deeply"),
    "directives": ("".join(f"%TAG !a{n}! x\n" for n in range(60_000)) + "---\na: 1\n", "more than 100 directives"),
    "bits": ("a: 0b" + "1" * 900_000, "more than 300 digits"),
    "hours": ("a: " + ":".join(["1"] * 300_000), "more than 300 digits"),
    "hex": ("a: 0x" + "f" * 5000, "more than 300 digits"),
    "digits": ('{"a": ' + "9" * 900_000 + "}", "more than 300 digits"),
    "merges": (
        "a: &a {x: 1}\n" + "".join(f"b{n}: &b{n} {{<<: [{', '.join([f'*{o}'] * 9)}]}}\n"
                                   for n, o in enumerate(["a", *(f"b{n}" for n in range(8))])),
        "more than 50000 values",
    ),
    "a tag of its own": ("a: !!timestamp x", "does not have the type that its tag names"),
    "no document of that size": (" " * (MAX_FILE_BYTES + 1), f"must not be larger than {MAX_FILE_BYTES} bytes"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(DOCUMENTS))
def test_a_hostile_document_is_refused_soon(name: str) -> None:
    text, rule = DOCUMENTS[name]
    begun = time.process_time()
    with pytest.raises(ConfigError) as refusal:
        parse_text(text)
    assert rule in str(refusal.value)
    assert time.process_time() - begun < SECONDS
    assert len(str(refusal.value)) < 1000


@pytest.mark.parametrize("depth", [100, 101])
def test_an_object_may_be_nested_as_deeply_as_a_file(depth: int) -> None:
    data: Any = 1
    for _ in range(depth - 1):
        data = [data]
    if depth == 100:
        assert take_object({"a": data}).data == parse_text(json.dumps({"a": data})).data
        return
    for read in (lambda: take_object({"a": data}), lambda: parse_text(json.dumps({"a": data}))):
        with pytest.raises(ConfigError, match="nested too deeply"):
            read()


@pytest.mark.parametrize(
    ("config", "rule"),
    [
        ({"a": 10**300}, "more than 300 digits"),
        ({"a": -(10**300)}, "more than 300 digits"),
        ({"a": "x" * MAX_FILE_BYTES}, "must not be larger than"),
        ("a: 1\n" + "#" * MAX_FILE_BYTES, "must not be larger than"),
    ],
)
def test_what_is_handed_over_has_the_limits_of_a_file(tmp_path: Path, config: Any, rule: str) -> None:
    with pytest.raises(ConfigError, match=rule):
        load_experiment(config, Settings(home=tmp_path))


def problems_of(text: str) -> ConfigError:
    source = parse_text(text, "", Path("/tmp"))
    return ConfigError(parse_experiment(source, AllowedRoots.of((), source.folder)).problems)


@pytest.mark.parametrize("text", [EXPERIMENT + UNKNOWN, json.dumps(yaml.safe_load(EXPERIMENT + UNKNOWN))])
def test_of_many_problems_the_first_are_told_and_how_many_more_there_are(text: str) -> None:
    begun = time.process_time()
    error = problems_of(text)
    assert time.process_time() - begun < SECONDS
    lines = str(error).splitlines()
    assert lines[0] == f"{len(error.problems)} problems in the experiment:"
    assert len(error.problems) >= 20_000
    assert lines[1].startswith("  - unknown0: is not a key that NNI knows here; got 1. Remove it; known here: ")
    assert (len(lines), lines[-1]) == (52, f"  - and {len(error.problems) - 50} more: correct these first")


def test_so_it_is_with_a_search_space() -> None:
    problems = parse_search_space({f"p{number}": {"_type": "none", "_value": []} for number in range(20_000)})[1]
    assert str(ConfigError(problems)).splitlines()[-1].endswith("more: correct these first")


def test_a_problem_does_not_repeat_all_that_somebody_wrote() -> None:
    key, value = "k" * 500_000, "v" * 500_000
    assert len(str(problems_of(EXPERIMENT + f"? {key}\n: {value}\n"))) < 30_000
    assert len(str(problems_of(EXPERIMENT.replace("command: x", f"command: '{value}'")))) < 10_000


def test_numbers_that_nni_takes_for_texts_are_told_a_few_at_a_time(tmp_path: Path) -> None:
    space = "".join(f"p{n}: {{_type: choice, _value: [{', '.join(['1e3'] * 50)}]}}\n" for n in range(300))
    for name, content in {"s.json": space, "config.yml": EXPERIMENT, "x.py": ""}.items():
        (tmp_path / name).write_text(content)
    warnings = load_experiment(str(tmp_path / "config.yml"), Settings(home=tmp_path / "home")).warnings
    assert (len(warnings), warnings[-1]) == (21, "280 more lists have such numbers")
    assert warnings[0].count("1e3") == 20


FRAGMENTS = ["  ", ": ", "- ", "{", "}", "[", "]", ", ", "'", '"', " # x", "&a ", "*a", "!!int ", "|\n", ">-\n", "\n",
             "---\n", "...\n", "1:20", "0x1f", "1e3", "~", "\\", "é", "🙂", "\r\n", "null", "2020-01-01"]  # fmt: skip


@pytest.mark.skipif(not yaml.__with_libyaml__, reason="there is no libyaml")
def test_large_documents_mean_the_same_as_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes through libyaml has the values and lines of what PyYAML reads."""
    generator = random.Random(3)
    read = 0
    for _ in range(600):
        text = EXPERIMENT
        for _ in range(generator.randrange(1, 4)):
            place = generator.randrange(len(text))
            text = text[:place] + generator.choice(FRAGMENTS) + text[place:]
        monkeypatch.setattr(node_module, "_LONGEST_FOR_PYTHON", 1 << 16)
        small = _read(text)
        monkeypatch.setattr(node_module, "_LONGEST_FOR_PYTHON", -1)
        assert _read(text) == small, text
        read += small is not None
    assert 100 < read < 500


def _read(text: str) -> Any:
    try:
        source = parse_text(text, is_space=True)
    except ConfigError:
        return None
    return source.data, source.lines, source.exponents
