"""An experiment's files on their way to another machine, and what an archive from outside may do there."""

from __future__ import annotations

import io
import json
import os
import stat
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from trialflow.errors import ConfigError
from trialflow.experiment.loading import load_experiment
from trialflow.experiment.loading.bundle import Bundle, is_here, prune_uploads, unpack
from trialflow.settings import Settings

V1: dict[str, Any] = {
    "authorName": "tests",
    "experimentName": "bundled",
    "trialConcurrency": 2,
    "maxTrialNum": 4,
    "trainingServicePlatform": "local",
    "searchSpacePath": "spaces/search_space.json",
    "useAnnotation": False,
    "tuner": {"builtinTunerName": "TPE"},
    "trial": {"command": "python3 trial.py", "codeDir": "code", "gpuNum": 0},
}
V2: dict[str, Any] = {
    "experimentName": "bundled",
    "searchSpaceFile": "spaces/search_space.json",
    "trialCommand": "python3 trial.py",
    "trialCodeDirectory": "code",
    "trialConcurrency": 2,
    "maxTrialNumber": 4,
    "tuner": {"name": "TPE"},
    "trainingService": {"platform": "local"},
}
FILES = {
    "spaces/search_space.json": '{"x": {"_type": "uniform", "_value": [0, 1]}}',
    "code/trial.py": "import nni\n",
    "code/tool.sh": "#!/bin/sh\n",
    "code/data/huge.bin": "0" * 1000,
    "code/.nniignore": "data/\n",
    "elsewhere/secret": "not of the experiment",
}


def write_folder(folder: Path, config: dict[str, Any] | None = None) -> Path:
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    (folder / "code" / "tool.sh").chmod(0o755)
    (folder / "config.yml").write_text(json.dumps(config or V1))
    return folder / "config.yml"


def archive_of(bundle: Bundle, file: Path) -> Path:
    with file.open("wb") as stream:
        bundle.write_to(stream)
    return file


def settings_of(home: Path, **changes: Any) -> Settings:
    return Settings(home=home, **changes)


@pytest.mark.parametrize("config", [V1, V2], ids=["v1", "v2"])
def test_an_experiment_arrives_whole_and_can_be_loaded_there(tmp_path: Path, config: dict[str, Any]) -> None:
    here, there = settings_of(tmp_path / "here"), settings_of(tmp_path / "there", allowed_roots=(tmp_path / "nowhere",))
    bundle = Bundle.of(write_folder(tmp_path / "experiment", config), here)

    folder = unpack(archive_of(bundle, tmp_path / "archive.zip"), there)

    arrived = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    names = ["code/.nniignore", "code/tool.sh", "code/trial.py", "config.yml", "spaces/search_space.json"]
    assert arrived == names
    assert stat.S_IMODE((folder / "code/tool.sh").stat().st_mode) == 0o755
    assert (folder / "code/trial.py").read_text() == FILES["code/trial.py"]
    spec = load_experiment(str(folder / bundle.config), there)
    assert (spec.name, spec.code_directory) == ("bundled", str(folder / "code"))


def test_the_same_files_make_the_same_archive_and_the_same_folder(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    config = write_folder(tmp_path / "experiment")
    folders = set()
    for name in ("a", "b"):
        os.utime(config, (1, len(folders)))
        folders.add(unpack(archive_of(Bundle.of(config, settings), tmp_path / name), settings))
    assert len(folders) == 1
    (tmp_path / "experiment/code/trial.py").write_text("changed")
    assert unpack(archive_of(Bundle.of(config, settings), tmp_path / "c"), settings) not in folders
    assert len(list(settings.uploads.iterdir())) == 2


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"searchSpacePath": "missing.json"}, "cannot be read: No such file"),
        ({"searchSpacePath": "pipe"}, "cannot be read: not a plain file"),
        ({"trial": {**V1["trial"], "codeDir": "linked"}}, "leads out of the allowed folder"),
    ],
)
def test_what_is_missing_or_linked_from_elsewhere_is_not_sent(
    tmp_path: Path, change: dict[str, Any], rule: str
) -> None:
    config = write_folder(tmp_path / "experiment", {**V1, **change})
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").touch()
    (tmp_path / "experiment/linked").mkdir()
    os.mkfifo(tmp_path / "experiment/pipe")
    (tmp_path / "experiment/linked/file").symlink_to(tmp_path / "outside/secret")
    with pytest.raises(ConfigError, match=rule):
        Bundle.of(config, settings_of(tmp_path))


TUNER = "class Mine:\n    pass\n"


@pytest.mark.parametrize("absolute", [False, True], ids=["relative", "absolute"])
@pytest.mark.parametrize("suffix", ["yml", "json"])
@pytest.mark.parametrize("form", ["v1", "v2", "v2 inside"])
def test_folders_beside_and_above_the_experiment_file_are_sent_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, absolute: bool, suffix: str, form: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    top = tmp_path / "project"
    code, space = ("~/project/code", f"{top}/spaces/s.json") if absolute else ("../../code", "../../spaces/s.json")
    files = {
        "code/trial.py": "import nni\n",
        "spaces/s.json": FILES["spaces/search_space.json"],
        "conf/here/note": "not sent",
        "secret": "not sent",
    }
    for name, content in files.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(content)
    config = {**V1, "searchSpacePath": space, "trial": {**V1["trial"], "codeDir": code}}
    if form != "v1":
        config = {**V2, "searchSpaceFile": space, "trialCodeDirectory": code}
    if form == "v2 inside":
        service = {"platform": "local", "trial_code_directory": code}
        config = {**V2, "searchSpaceFile": space, "training_service": service}
        del config["trainingService"], config["trialCodeDirectory"]
    file = top / "conf/here" / f"config.{suffix}"
    file.write_text(json.dumps(config))
    here, there = settings_of(tmp_path / "h"), settings_of(tmp_path / "t", allowed_roots=(tmp_path / "nowhere",))

    bundle = Bundle.of(file, here)
    folder = unpack(archive_of(bundle, tmp_path / "archive.zip"), there)

    arrived = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert arrived == ["code/trial.py", f"conf/here/config.{suffix}", "spaces/s.json"]
    spec = load_experiment(str(folder / bundle.config), there)
    assert Path(spec.code_directory).samefile(folder / "code")
    assert list(spec.search_space) == ["x"]
    assert is_here(str(file), bundle.digest, here)


def test_code_that_is_too_large_is_not_sent(tmp_path: Path) -> None:
    config = write_folder(tmp_path / "experiment")
    with pytest.raises(ConfigError, match="must not hold more than"):
        Bundle.of(config, settings_of(tmp_path, max_code_bytes=10))


def hostile(name: str, content: bytes = b"x", mode: int = stat.S_IFREG | 0o644) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        entry = zipfile.ZipInfo(name)
        entry.external_attr = mode << 16
        archive.writestr(entry, content)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("archive", "rule"),
    [
        (hostile("../escaped"), "inside of its own folder"),
        (hostile("a/../../escaped"), "inside of its own folder"),
        (hostile("/tmp/escaped"), "inside of its own folder"),
        (hostile("a\\..\\escaped"), "inside of its own folder"),
        (hostile("a\nb"), "inside of its own folder"),
        (hostile("/".join("a" * 200)), "inside of its own folder"),
        (hostile("link", b"/etc/passwd", stat.S_IFLNK | 0o777), "plain files"),
        (hostile("pipe", b"", stat.S_IFIFO), "plain files"),
        (hostile("folder/"), "plain files"),
        (hostile("bomb", b"0" * 5000), "holds more than TRIALFLOW_MAX_CODE_BYTES"),
        (hostile("x" * 300), "cannot be unpacked"),
        (b"no archive", "must be a ZIP archive"),
        (hostile("cut", os.urandom(500))[:-100], "must be a ZIP archive"),
        (b"", "must be a ZIP archive"),
    ],
)
def test_a_hostile_archive_leaves_nothing_behind(tmp_path: Path, archive: bytes, rule: str) -> None:
    settings = settings_of(tmp_path / "home", max_code_bytes=4000)
    (tmp_path / "archive.zip").write_bytes(archive)
    with pytest.raises(ConfigError, match=rule):
        unpack(tmp_path / "archive.zip", settings)
    assert list(settings.uploads.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive.zip", "home"]


def test_a_file_that_says_to_be_smaller_than_it_is_counts_as_what_it_is(tmp_path: Path) -> None:
    honest = hostile("file", b"0" * 5000)
    lying = honest.replace((5000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    assert lying != honest
    (tmp_path / "archive.zip").write_bytes(lying)
    with pytest.raises(ConfigError, match="must be a ZIP archive"):
        unpack(tmp_path / "archive.zip", settings_of(tmp_path, max_code_bytes=4000))


def test_a_name_that_comes_twice_is_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a", b"1")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a", b"2")
    (tmp_path / "archive.zip").write_bytes(stream.getvalue())
    with pytest.raises(ConfigError, match="cannot be unpacked; got File exists"):
        unpack(tmp_path / "archive.zip", settings_of(tmp_path))


def test_more_files_than_allowed_are_refused(tmp_path: Path) -> None:
    bundle = Bundle.of(write_folder(tmp_path / "experiment"), settings_of(tmp_path))
    with pytest.raises(ConfigError, match="must not hold more than 3 files"):
        unpack(archive_of(bundle, tmp_path / "a.zip"), settings_of(tmp_path, max_code_files=3))


def test_files_are_here_when_every_one_of_them_is_the_same(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    config = write_folder(tmp_path / "experiment")
    digest = Bundle.of(config, settings).digest
    assert is_here(str(config), digest, settings)
    (tmp_path / "experiment/code/data/huge.bin").write_text("ignored")
    assert is_here(str(config), digest, settings)
    (tmp_path / "experiment/code/trial.py").write_text("changed")
    assert not is_here(str(config), digest, settings)
    for wrong in ("config.yml", str(tmp_path), str(tmp_path / "none"), "/dev/zero", "a\0b"):
        assert not is_here(wrong, digest, settings)


def test_an_upload_that_no_experiment_uses_is_deleted_after_a_day(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    for name in ("used", "old", "new"):
        (settings.uploads / name / "code").mkdir(parents=True)
    (settings.uploads / ".cut.zip").touch()
    for name in ("used", "old", ".cut.zip"):
        os.utime(settings.uploads / name, (0, time.time() - 90_000))
    odd = [str(settings.uploads), f"{settings.uploads}/../old", "", "."]
    prune_uploads(settings, [str(settings.uploads / "used/code"), "/elsewhere/old", *odd])
    assert sorted(path.name for path in settings.uploads.iterdir()) == ["new", "used"]


@pytest.mark.parametrize("configured", [False, True])
@pytest.mark.parametrize(
    ("folder", "code"),
    [("", "."), ("", "mine/code"), ("mine/..", "."), ("mine", ".."), ("mine", "../theirs"), ("mine/code", "../..")],
)
def test_an_upload_may_read_itself_and_no_other_upload(
    tmp_path: Path, configured: bool, folder: str, code: str
) -> None:
    settings = settings_of(tmp_path, allowed_roots=(tmp_path,) if configured else ())
    for name in ("mine", "theirs"):
        write_folder(settings.uploads / name)
    config = {**V1, "searchSpacePath": str(settings.uploads / "mine/spaces/search_space.json")}

    def load(folder: str, code: str) -> Any:
        trial = {**V1["trial"], "codeDir": code}
        return load_experiment({**config, "trial": trial}, settings, str(settings.uploads / folder))

    assert load("mine", "code").code_root == str(settings.uploads / "mine")
    assert load("mine/code", ".").code_root == str(settings.uploads / "mine")
    with pytest.raises(ConfigError, match=r"trial\.codeDir: must lie inside an allowed folder"):
        load(folder, code)
