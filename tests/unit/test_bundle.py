"""An experiment's files on their way to another machine, and what an archive from outside may do there."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import stat
import struct
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trialflow.errors import ConfigError, QuotaError
from trialflow.experiment.loading import bundle as bundle_module
from trialflow.experiment.loading import load_experiment, uploads
from trialflow.experiment.loading.bundle import Bundle, is_here, is_same_file
from trialflow.experiment.loading.uploads import (
    find_upload,
    keep_upload,
    list_uploads,
    prune_uploads,
    require_room,
    unpack,
)
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


def uploads_in(settings: Settings) -> list[str]:
    """The folders of uploads, and whatever else lies beside them but the lock and the notes."""
    return sorted({path.name for path in settings.uploads.iterdir()} - {".lock", ".held"})


@pytest.mark.parametrize("config", [V1, V2], ids=["v1", "v2"])
def test_an_experiment_arrives_whole_and_can_be_loaded_there(tmp_path: Path, config: dict[str, Any]) -> None:
    here, there = settings_of(tmp_path / "here"), settings_of(tmp_path / "there", allowed_roots=(tmp_path / "nowhere",))
    bundle = Bundle.of(write_folder(tmp_path / "experiment", config), here)

    folder = unpack(archive_of(bundle, tmp_path / "archive.zip"), "ann", there)

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
        folders.add(unpack(archive_of(Bundle.of(config, settings), tmp_path / name), "ann", settings))
    assert len(folders) == 1
    (tmp_path / "experiment/code/trial.py").write_text("changed")
    assert unpack(archive_of(Bundle.of(config, settings), tmp_path / "c"), "ann", settings) not in folders
    assert len(uploads_in(settings)) == 2


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
    folder = unpack(archive_of(bundle, tmp_path / "archive.zip"), "ann", there)

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


def hostile(
    name: str, content: bytes = b"x", mode: int = stat.S_IFREG | 0o644, kind: int = zipfile.ZIP_DEFLATED
) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", kind) as archive:
        entry = zipfile.ZipInfo(name)
        entry.external_attr = mode << 16
        entry.compress_type = kind
        archive.writestr(entry, content)
    return stream.getvalue()


def nameless() -> bytes:
    """An archive with a file that has no name, neither in the archive's list nor before its content."""
    named = bytearray(hostile("n"))
    for mark, length_at, name_at in ((b"PK\x01\x02", 28, 46), (b"PK\x03\x04", 26, 30)):
        start = named.index(mark)
        named[start + length_at] = 0
        del named[start + name_at]
    end = named.index(b"PK\x05\x06")
    named[end + 12] -= 1  # The list is shorter by a byte, and so is what comes before it.
    named[end + 16] -= 1
    return bytes(named)


@pytest.mark.parametrize(
    ("archive", "rule"),
    [
        (hostile("../escaped"), "inside of its own folder"),
        (hostile("a/../../escaped"), "inside of its own folder"),
        (hostile("/tmp/escaped"), "inside of its own folder"),
        (hostile("a\\..\\escaped"), "inside of its own folder"),
        (hostile("a\nb"), "inside of its own folder"),
        (hostile("/".join("a" * 200)), "inside of its own folder"),
        (nameless(), "inside of its own folder"),
        (hostile("bzip2", kind=zipfile.ZIP_BZIP2), "must be packed in the way"),
        (hostile("lzma", kind=zipfile.ZIP_LZMA), "must be packed in the way"),
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
        unpack(tmp_path / "archive.zip", "ann", settings)
    assert uploads_in(settings) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive.zip", "home"]


def test_a_file_that_says_to_be_smaller_than_it_is_counts_as_what_it_is(tmp_path: Path) -> None:
    honest = hostile("file", b"0" * 5000)
    lying = honest.replace((5000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    assert lying != honest
    (tmp_path / "archive.zip").write_bytes(lying)
    with pytest.raises(ConfigError, match="must be a ZIP archive"):
        unpack(tmp_path / "archive.zip", "ann", settings_of(tmp_path, max_code_bytes=4000))


def test_a_name_that_comes_twice_is_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a", b"1")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a", b"2")
    (tmp_path / "archive.zip").write_bytes(stream.getvalue())
    with pytest.raises(ConfigError, match="cannot be unpacked; got File exists"):
        unpack(tmp_path / "archive.zip", "ann", settings_of(tmp_path))


def test_more_files_than_allowed_are_refused(tmp_path: Path) -> None:
    bundle = Bundle.of(write_folder(tmp_path / "experiment"), settings_of(tmp_path))
    with pytest.raises(ConfigError, match="must not hold more than 3 files"):
        unpack(archive_of(bundle, tmp_path / "a.zip"), "ann", settings_of(tmp_path, max_code_files=3))


def test_an_archive_from_another_person_is_another_folder(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "home")
    archive = archive_of(Bundle.of(write_folder(tmp_path / "experiment"), settings), tmp_path / "a.zip")
    first, second = (unpack(archive, who, settings) for who in ("ann", "bob"))
    assert first != second
    (first / "code/trial.py").write_text("of ann's trial")
    assert (second / "code/trial.py").read_text() == FILES["code/trial.py"]
    assert unpack(archive, "ann", settings) == first


def test_who_holds_what_is_known(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "home")
    bundle = Bundle.of(write_folder(tmp_path / "experiment"), settings)
    folder = unpack(archive_of(bundle, tmp_path / "a.zip"), "ann", settings)
    (held,) = list_uploads(settings)
    assert (held.name, held.who, held.digest) == (folder.name, "ann", bundle.digest)
    assert bundle.size < held.size < bundle.size + 4096 * 10
    os.utime(folder, (1, 1))
    assert find_upload("ann", bundle.digest, settings) == folder
    assert folder.stat().st_mtime > 1
    assert find_upload("bob", bundle.digest, settings) is None
    assert find_upload("ann", "0" * 64, settings) is None
    (settings.uploads / ".held" / "broken").write_text("{")
    shutil.rmtree(folder)
    assert list_uploads(settings) == []


def test_nobody_may_hold_more_than_their_share(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "home", max_upload_bytes_per_user=300_000, max_upload_bytes=500_000)
    archives = [tmp_path / f"{number}.zip" for number in range(3)]
    for archive in archives:
        archive.write_bytes(hostile("file", os.urandom(200_000)))
    unpack(archives[0], "ann", settings)
    with pytest.raises(QuotaError, match="need more room than you"):
        unpack(archives[1], "ann", settings)
    unpack(archives[1], "bob", settings)
    with pytest.raises(QuotaError, match="or all users, have left"):
        unpack(archives[2], "eve", settings)
    assert len(uploads_in(settings)) == 2
    require_room(settings, "ann")
    for who, said in (("ann", r"you hold 0\.2 MB \(\w{32} 0\.2 MB\) of uploads, and may hold 0\.1 MB"),
                      ("eve", r"all users hold 0\.4 MB \((ann|bob) 0\.2 MB, .* may hold 0\.4 MB")):
        full = settings.model_copy(update={"max_upload_bytes_per_user": 100_000, "max_upload_bytes": 400_000})
        with pytest.raises(QuotaError, match=said):
            require_room(full, who)


def test_two_uploads_at_a_time_share_what_one_person_may_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(tmp_path / "home", max_upload_bytes_per_user=300_000)
    first, second = tmp_path / "1.zip", tmp_path / "2.zip"
    for archive in (first, second):
        archive.write_bytes(hostile("file", os.urandom(200_000)))
    run = uploads._Unpacking.run

    def overtaken(unpacking: Any, path: Path) -> None:
        run(unpacking, path)
        monkeypatch.setattr(uploads._Unpacking, "run", run)
        unpack(second, "ann", settings)

    monkeypatch.setattr(uploads._Unpacking, "run", overtaken)
    with pytest.raises(QuotaError):
        unpack(first, "ann", settings)
    assert len(uploads_in(settings)) == len(list_uploads(settings)) == 1


def test_empty_files_and_folders_take_their_share_too(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "home", max_upload_bytes_per_user=40_000)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for number in range(10):
            archive.writestr(f"{number}/empty", b"")
    (tmp_path / "a.zip").write_bytes(stream.getvalue())
    with pytest.raises(QuotaError):
        unpack(tmp_path / "a.zip", "ann", settings)


def test_uploads_leave_room_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(tmp_path / "home", min_free_bytes=1000)
    (tmp_path / "a.zip").write_bytes(hostile("file"))
    free = [5000, 999]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free[0]))
    require_room(settings, "ann", 4000)
    with pytest.raises(QuotaError, match=r"must keep 0\.0 MB free"):
        require_room(settings, "ann", 4001)
    free.pop(0)
    with pytest.raises(QuotaError, match="TRIALFLOW_MIN_FREE_BYTES"):
        unpack(tmp_path / "a.zip", "ann", settings)
    assert uploads_in(settings) == []


@pytest.mark.parametrize(("size", "fits"), [(15 << 20, True), (40 << 20, False)])
def test_an_archive_may_not_be_much_larger_than_it_seems(tmp_path: Path, size: int, fits: bool) -> None:
    (tmp_path / "a.zip").write_bytes(hostile("zeros", bytes(size)))
    if fits:
        unpack(tmp_path / "a.zip", "ann", settings_of(tmp_path / "home"))
        return
    with pytest.raises(ConfigError, match="must not be more than 100 times as large"):
        unpack(tmp_path / "a.zip", "ann", settings_of(tmp_path / "home"))


def test_folders_count_as_files_do(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for number in range(3):
            archive.writestr("/".join(f"{number}{level}" for level in range(50)), b"")
    (tmp_path / "a.zip").write_bytes(stream.getvalue())
    unpack(tmp_path / "a.zip", "ann", settings_of(tmp_path / "home", max_code_files=147))
    with pytest.raises(ConfigError, match="must not hold more than 146 files or folders"):
        unpack(tmp_path / "a.zip", "bob", settings_of(tmp_path / "home", max_code_files=146))


def test_a_list_of_files_that_no_memory_holds_is_not_read(tmp_path: Path) -> None:
    """An archive that is all list: each of its entries would take twenty times as much memory."""
    entry = hostile("n")
    listed = entry[entry.index(b"PK\x01\x02") : entry.index(b"PK\x05\x06")]
    (tmp_path / "a.zip").write_bytes(listed * 40_000 + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1,
                                                                  len(listed) * 40_000, 0, 0))  # fmt: skip
    with pytest.raises(ConfigError, match="the list of its files is too long"):
        unpack(tmp_path / "a.zip", "ann", settings_of(tmp_path / "home", max_code_files=10))


class _DeathError(BaseException):
    pass


@pytest.mark.parametrize("moment", ["rename", "replace"])
def test_whoever_dies_over_an_upload_leaves_nothing_that_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    settings = settings_of(tmp_path / "home")
    (tmp_path / "a.zip").write_bytes(hostile("file"))

    def die(*_: object) -> None:
        raise _DeathError

    with monkeypatch.context() as patch:
        patch.setattr(Path, moment, die)
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(_DeathError):
            unpack(tmp_path / "a.zip", "ann", settings)
    assert list_uploads(settings) == []
    for left in settings.uploads.iterdir():
        os.utime(left, (1, 1))
    prune_uploads(settings, [])
    assert uploads_in(settings) == []
    place = unpack(tmp_path / "a.zip", "ann", settings)
    assert [held.name for held in list_uploads(settings)] == [place.name]


def test_what_was_asked_for_or_started_meanwhile_is_not_deleted(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "home")
    (tmp_path / "a.zip").write_bytes(hostile("config.yml"))
    place = unpack(tmp_path / "a.zip", "ann", settings)
    for keep in (
        lambda: unpack(tmp_path / "a.zip", "ann", settings),
        lambda: keep_upload(f"{place}/sub/../config.yml", settings),
        lambda: find_upload("ann", list_uploads(settings)[0].digest, settings),
    ):
        os.utime(place, (1, 1))
        keep()
        prune_uploads(settings, [])
        assert place.is_dir()
    os.utime(place, (1, 1))
    for elsewhere in ("/etc/passwd", f"{settings.uploads}/.held", f"{settings.uploads}/none/x", "a\0b", ""):
        keep_upload(elsewhere, settings)
    prune_uploads(settings, [])
    assert (uploads_in(settings), list_uploads(settings)) == ([], [])
    assert list((settings.uploads / ".held").iterdir()) == []


def test_nothing_of_ours_among_the_uploads_is_an_experiment(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    write_folder(settings.uploads / ".held")
    with pytest.raises(ConfigError, match="must lie inside an allowed folder"):
        load_experiment(str(settings.uploads / ".held/config.yml"), settings)


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
        assert not is_same_file(wrong, digest)


def test_what_is_large_is_not_looked_through_where_others_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(tmp_path)
    config = write_folder(tmp_path / "experiment")
    digest = Bundle.of(config, settings).digest
    for limit, most in (("_MOST_COMPARED_FILES", 1), ("_MOST_COMPARED_BYTES", 10)):
        with monkeypatch.context() as patch:
            patch.setattr(bundle_module, limit, most)
            assert not is_here(str(config), digest, settings)
    assert is_here(str(config), digest, settings)
    with bundle_module._comparing:
        monkeypatch.setattr(bundle_module, "_PATIENCE_SECONDS", 0.01)
        assert not is_here(str(config), digest, settings)
    file_digest = hashlib.sha256(config.read_bytes()).hexdigest()
    assert is_same_file(str(config), file_digest)
    assert not is_same_file(str(config), digest)


def test_an_upload_that_no_experiment_uses_is_deleted_after_a_day(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    for name in ("used", "old", "new"):
        (settings.uploads / name / "code").mkdir(parents=True)
    (settings.uploads / ".cut.zip").touch()
    for name in ("used", "old", ".cut.zip"):
        os.utime(settings.uploads / name, (0, time.time() - 90_000))
    odd = [str(settings.uploads), f"{settings.uploads}/../old", "", "."]
    prune_uploads(settings, [str(settings.uploads / "used/code"), "/elsewhere/old", *odd])
    assert uploads_in(settings) == ["new", "used"]


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
