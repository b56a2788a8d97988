"""Of a file that is no experiment, nothing is repeated where others can read it."""

from __future__ import annotations

import json
import traceback
from pathlib import Path

import pytest

from trialflow.errors import ConfigError
from trialflow.experiment.loading import load_experiment
from trialflow.settings import Settings

from .lab import EXPERIMENT

SECRET = "hunter2"
# What may lie where the worker can read.
SECRETS = {
    "passwd": f"root:x:0:0:{SECRET}:/root:/bin/bash\ndaemon:x:1:1:{SECRET}:/:/bin/sh\n",
    "shadow": f"root:$6${SECRET}:19000:0:99999:7:::\n",
    "one line": SECRET,
    "yaml": f"username: ann\npassword: {SECRET}\nhosts: [{SECRET}]\n",
    "keys": f"{SECRET}: 1\n{{{SECRET}: ~}}: 2\n",
    "flow": f"{{{SECRET}}}",
    "blank missing": f"user:ann\npassword:{SECRET}\n",
    "blank missing, later": f"user: ann\npassword:{SECRET}\nhost: x\n",
    "two colons": f"password: {SECRET}: 3\n",
    "reserved": f"password: @{SECRET}\n",
    "alias": f"password: *{SECRET}\n",
    "anchors": f"a: &{SECRET} 1\nb: &{SECRET} 2\n",
    "tag": f"password: !{SECRET} x\n",
    "handle": f"password: !{SECRET}!x x\n",
    "number": f"password: !!int {SECRET}\n",
    "float": f"password: !!float {SECRET}\n",
    "quotes": f"password: !!int \"it's {SECRET}\"\n",
    "twice": f"{SECRET}: 1\n{SECRET}: 2\n",
    "twice, in quotes": f"\"it's {SECRET}\": 1\n\"it's {SECRET}\": 2\n",
    "unfinished": f"password: '{SECRET}\n",
    "json": json.dumps({"type": "service_account", "description": "x", "private_key": SECRET}),
    "json twice": f'{{"{SECRET}": 1, "{SECRET}": 2}}',
    "json broken": f'{{"password": "{SECRET}" "x"}}',
    "json list": json.dumps([SECRET]),
    "ini": f"[section]\npassword = {SECRET}\n",
    "env": f"export PASSWORD={SECRET}\nTOKEN={SECRET}\n",
    "netrc": f"machine x login ann password {SECRET}\n",
    "placeholder": f"password: ${{your_{SECRET}}}\n",
    "one key of ours": f"tuner: {SECRET}\npassword: {SECRET}\n",
    "other program": f"debug: true\nlogDir: /x\ntrials: 1\npassword: {SECRET}\n",
    "latin": f"passw\xf6rd: {SECRET}\n",
    "bell": f"password: \x07{SECRET}\n",
}


def refusal(file: Path, home: Path) -> str:
    with pytest.raises(ConfigError) as refused:
        load_experiment(str(file), Settings(home=home))
    # Airflow logs what an error was raised from, too.
    return "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize("name", list(SECRETS))
def test_a_file_that_is_no_experiment_is_not_quoted(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(SECRETS[name].encode("latin-1"))
    said = refusal(tmp_path / "file", tmp_path / "home")
    assert str(tmp_path / "file") in said
    assert SECRET not in said
    assert SECRET not in repr(said)


@pytest.mark.parametrize("name", list(SECRETS))
def test_a_file_that_is_no_search_space_is_not_quoted(tmp_path: Path, name: str) -> None:
    (tmp_path / "config.yml").write_text(EXPERIMENT)
    (tmp_path / "s.json").write_bytes(SECRETS[name].encode("latin-1"))
    said = refusal(tmp_path / "config.yml", tmp_path / "home")
    assert str(tmp_path / "s.json") in said
    assert SECRET not in said


@pytest.mark.parametrize("line", [f"!{SECRET}[z-a]", f"!/{SECRET}[z-a]", "!"])
def test_an_ignore_file_is_not_quoted(tmp_path: Path, line: str) -> None:
    (tmp_path / "config.yml").write_text(EXPERIMENT)
    (tmp_path / "s.json").write_text("{}")
    (tmp_path / "secret").write_text(f"data/\n{line}\n")
    (tmp_path / ".nniignore").symlink_to(tmp_path / "secret")
    said = refusal(tmp_path / "config.yml", tmp_path / "home")
    assert "has a malformed pattern in line 2" in said
    assert SECRET not in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (EXPERIMENT.replace("TPE", "TPF"), "TPF"),
        (EXPERIMENT.replace("trialConcurrency: 1", "trialConcurrency: many"), 'got "many"'),
        (EXPERIMENT.replace("trialConcurrency: 1", "trialConcurrency:1"), "trialConcurrency: 1"),
        (EXPERIMENT + "tuner: 1\n", "the key 'tuner' stands twice"),
        ("authorName:me\ntrialConcurrency:2", "Write a blank after the colon: authorName: me"),
        ("tuner: TPE\nsearch_space: 7", "got 7"),
    ],
)
def test_an_experiment_is_quoted_as_before(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "config.yml").write_text(text)
    (tmp_path / "s.json").write_text("{}")
    assert said in refusal(tmp_path / "config.yml", tmp_path / "home")
