"""Files of a user's that are no plain files, or too large, or elsewhere: nobody waits for them or is filled by them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trialflow.errors import ConfigError
from trialflow.experiment.loading import load_experiment
from trialflow.experiment.loading.annotated import read_search_space
from trialflow.experiment.loading.bundle import Bundle
from trialflow.experiment.loading.trial_script import find_trial_python
from trialflow.settings import Settings
from trialflow.training.kubeflow.pull_secrets import read_registry_login
from trialflow.training.local.section import LocalSection
from trialflow.trial_files import TooLargeError, read_chunks, read_user_file

pytestmark = pytest.mark.usefixtures("in_time")

CONFIG = """authorName: tests
experimentName: traps
trialConcurrency: 1
maxTrialNum: 1
trainingServicePlatform: local
searchSpacePath: space.json
tuner: {classFileName: mine.py, className: Mine, codeDir: .}
trial: {command: python3 trial.py, codeDir: ., gpuNum: 0}
"""
FILES = {
    "config.yml": CONFIG,
    "space.json": '{"x": {"_type": "uniform", "_value": [0, 1]}}',
    "mine.py": "from nni.tuner import Tuner\nclass Mine(Tuner): pass\n",
    "trial.py": "import nni\n",
    ".nniignore": "data/\n",
}


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(10 << 30)


# What may lie in the place of a file.
TRAPS: dict[str, Callable[[Path], None]] = {
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "terminal": lambda path: path.symlink_to("/dev/tty"),
    "folder": Path.mkdir,
    "10 GB": sparse,
}
# A folder may be called trial.py.
PLACES = [(name, trap) for name in FILES for trap in TRAPS if (name, trap) != ("trial.py", "folder")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "experiment"
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_text(content)
    return folder


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


def load(folder: Path, settings: Settings) -> Any:
    return load_experiment(str(folder / "config.yml"), settings)


@pytest.mark.parametrize(("name", "trap"), PLACES)
def test_whoever_loads_an_experiment_is_neither_held_up_nor_filled(
    folder: Path, settings: Settings, name: str, trap: str
) -> None:
    assert load(folder, settings).name == "traps"
    (folder / name).unlink()
    TRAPS[trap](folder / name)

    with pytest.raises(ConfigError) as refusal:
        load(folder, settings)

    assert name in str(refusal.value) or str(folder) in str(refusal.value)


@pytest.mark.parametrize(("name", "trap"), PLACES)
def test_whoever_sends_an_experiment_is_neither_held_up_nor_filled(
    folder: Path, settings: Settings, name: str, trap: str
) -> None:
    assert len(Bundle.of(folder / "config.yml", settings).files) == len(FILES)
    (folder / name).unlink()
    TRAPS[trap](folder / name)

    if (name, trap) == ("mine.py", "folder"):  # It is for the server to say that no class is in there.
        assert len(Bundle.of(folder / "config.yml", settings).files) == len(FILES) - 1
        return
    with pytest.raises(ConfigError):
        Bundle.of(folder / "config.yml", settings)


@pytest.mark.parametrize("trap", list(TRAPS))
def test_neither_is_whoever_asks_the_trials_python_or_reads_a_login(folder: Path, trap: str) -> None:
    (folder / "trial.py").unlink()
    TRAPS[trap](folder / "trial.py")

    found = find_trial_python(LocalSection("python3 trial.py"), folder, "")

    assert found.warnings == ()
    with pytest.raises(ValueError, match="cannot be read: "):
        read_registry_login(str(folder / "trial.py"))


def test_a_huge_file_is_not_looked_through_for_annotations(folder: Path, settings: Settings) -> None:
    (folder / "mine.py").unlink()
    with (folder / "mine.py").open("wb") as file:
        file.truncate(5 << 20)

    with pytest.raises(ConfigError, match=r"mine\.py: cannot be read: File too large"):
        read_search_space(folder, settings)


def test_a_file_is_read_as_large_as_it_was_when_it_was_opened(folder: Path) -> None:
    (folder / "grows").write_bytes(b"x" * (3 << 20))
    read = b""
    for chunk in read_chunks(folder / "grows", 4 << 20):
        read += chunk
        with (folder / "grows").open("ab") as file:
            file.write(chunk)
    assert read == b"x" * (3 << 20)
    with pytest.raises(TooLargeError):
        read_user_file(folder / "grows", 4 << 20)


def test_links_lead_as_far_as_the_root(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("secret")
    (folder / "inside").write_text("mine")
    (folder / "links").mkdir()
    (folder / "links" / "in").symlink_to(folder / "inside")
    (folder / "links" / "out").symlink_to(tmp_path / "outside")

    assert read_user_file(folder / "links" / "in", 9, folder) == b"mine"
    with pytest.raises(OSError, match="not a plain file"):
        read_user_file(folder / "links" / "out", 9, folder)
    with pytest.raises(FileNotFoundError):
        read_user_file(folder / "links" / "none", 9, folder)


def test_a_link_that_is_laid_after_the_check_is_not_followed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "outside").write_text("secret")
    real = os.path.realpath

    def lay(path: Any, **arguments: Any) -> str:
        resolved = real(path, **arguments)
        if str(path).endswith("trial.py"):
            Path(path).unlink()
            Path(path).symlink_to(tmp_path / "outside")
        return resolved

    monkeypatch.setattr(os.path, "realpath", lay)
    with pytest.raises(OSError, match="not a plain file"):
        read_user_file(folder / "trial.py", 9)
