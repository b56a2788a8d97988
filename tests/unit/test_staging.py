from __future__ import annotations

import errno
import os
import shutil
import socket
import time
from pathlib import Path

import pytest

from trialflow.errors import StagingError
from trialflow.messages import Problem
from trialflow.staging import CodeFile, FolderStorage, scan_code
from trialflow.staging.files import digest_of
from trialflow.staging.scan import MAX_DEPTH

MANY = 1 << 30


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / "root" / "code"
    (folder / "lib").mkdir(parents=True)
    (folder / "main.py").write_text("print('main')\n")
    (folder / "lib" / "net.py").write_text("print('net')\n")
    return folder


@pytest.fixture
def storage(tmp_path: Path) -> FolderStorage:
    return FolderStorage(tmp_path / "experiment")


def scan(
    folder: Path, *, max_bytes: int = MANY, max_files: int = 20_000
) -> tuple[list[CodeFile], list[Problem]]:
    return scan_code(folder, folder.parent.resolve(), max_bytes, max_files)


def files_of(folder: Path) -> list[CodeFile]:
    files, problems = scan(folder)
    assert not problems
    return files


def names_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def only(problems: list[Problem]) -> Problem:
    assert len(problems) == 1, [str(problem) for problem in problems]
    return problems[0]


def test_the_code_is_staged_with_its_folders_contents_and_execute_bits(
    code: Path, storage: FolderStorage
) -> None:
    (code / "main.py").chmod(0o744)

    place = Path(storage.stage(files_of(code)))

    assert storage.is_staged(str(place))
    assert names_in(place) == {"main.py", "lib/net.py"}
    assert (place / "lib" / "net.py").read_text() == "print('net')\n"
    assert os.access(place / "main.py", os.X_OK)
    assert not (place / "lib" / "net.py").stat().st_mode & 0o111
    assert [path.name for path in place.parent.iterdir()] == [place.name]


def test_content_that_takes_the_place_of_a_file_is_staged(code: Path, storage: FolderStorage) -> None:
    as_it_is = storage.stage(files_of(code))
    files = [file.with_content(b"other") if file.name == "main.py" else file for file in files_of(code)]

    place = Path(storage.stage(files))

    assert str(place) != as_it_is
    assert (place / "main.py").read_text() == "other"
    assert (place / "lib" / "net.py").read_text() == "print('net')\n"
    assert (code / "main.py").read_text() == "print('main')\n"


def test_code_that_is_staged_is_not_copied_again(
    code: Path, storage: FolderStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = storage.stage(files_of(code))

    def refuse_to_copy(*_: object) -> None:
        raise AssertionError("copied again")

    monkeypatch.setattr(CodeFile, "copy_to", refuse_to_copy)

    assert storage.stage(files_of(code)) == place


def test_the_same_content_elsewhere_has_the_same_digest(code: Path, tmp_path: Path) -> None:
    twin = tmp_path / "other" / "twin"
    shutil.copytree(code, twin)

    assert digest_of(files_of(twin)) == digest_of(files_of(code))
    assert digest_of(files_of(code)[::-1]) == digest_of(files_of(code))


@pytest.mark.parametrize("change", ["content", "name", "execute bit", "file more"])
def test_another_content_goes_to_another_place(code: Path, storage: FolderStorage, change: str) -> None:
    first = storage.stage(files_of(code))
    if change == "content":
        (code / "main.py").write_text("print('niam')\n")
    elif change == "name":
        (code / "main.py").rename(code / "start.py")
    elif change == "execute bit":
        (code / "main.py").chmod(0o755)
    else:
        (code / "more.py").touch()

    second = storage.stage(files_of(code))

    assert second != first
    assert storage.is_staged(first)
    assert storage.is_staged(second)


def test_a_partial_copy_is_not_staged(code: Path, storage: FolderStorage, tmp_path: Path) -> None:
    target = tmp_path / "experiment" / f"code-{digest_of(files_of(code))[:16]}"
    target.with_name(f"{target.name}.partial").mkdir(parents=True)

    assert not storage.is_staged(str(target))


def fill_the_disk(monkeypatch: pytest.MonkeyPatch, *, after: int) -> list[str]:
    """Let ``after`` files be copied whole and the next one by half; the list holds what was copied."""
    copied: list[str] = []
    real = CodeFile.copy_to

    def copy_to(file: CodeFile, target: Path) -> None:
        if len(copied) >= after:
            target.write_bytes(file.path.read_bytes()[:3])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        copied.append(file.path.name)
        real(file, target)

    monkeypatch.setattr(CodeFile, "copy_to", copy_to)
    return copied


@pytest.mark.parametrize("after", [0, 1])
def test_a_full_disk_leaves_nothing_at_the_final_place_and_the_next_call_completes(
    code: Path, storage: FolderStorage, tmp_path: Path, after: int
) -> None:
    files = files_of(code)
    with pytest.MonkeyPatch.context() as full:
        fill_the_disk(full, after=after)
        with pytest.raises(StagingError, match=r"No space left on device \(errno 28\); make room"):
            storage.stage(files)
    assert [path.suffix for path in (tmp_path / "experiment").iterdir()] == [".partial"]

    place = Path(storage.stage(files))

    assert names_in(place) == {"main.py", "lib/net.py"}
    assert (place / "main.py").read_text() == "print('main')\n"
    assert list((tmp_path / "experiment").iterdir()) == [place]


def test_a_partial_copy_is_taken_up_where_it_stopped(code: Path, storage: FolderStorage) -> None:
    files = files_of(code)
    with pytest.MonkeyPatch.context() as full:
        first = fill_the_disk(full, after=1)
        with pytest.raises(StagingError):
            storage.stage(files)
    with pytest.MonkeyPatch.context() as watched:
        second = fill_the_disk(watched, after=9)
        storage.stage(files)

    assert len(first) == len(second) == 1
    assert {*first, *second} == {"main.py", "net.py"}


@pytest.mark.parametrize("left", ["prin", "print('NET')\n"], ids=["short", "other content"])
def test_a_file_that_was_left_damaged_is_copied_again(
    code: Path, storage: FolderStorage, tmp_path: Path, left: str
) -> None:
    files = files_of(code)
    damaged = tmp_path / "experiment" / f"code-{digest_of(files)[:16]}.partial" / "lib" / "net.py"
    damaged.parent.mkdir(parents=True)
    damaged.write_text(left)

    place = Path(storage.stage(files))

    assert (place / "lib" / "net.py").read_text() == "print('net')\n"


def test_the_partial_copy_of_code_that_has_changed_is_removed(
    code: Path, storage: FolderStorage, tmp_path: Path
) -> None:
    stale = tmp_path / "experiment" / "code-0123456789abcdef.partial"
    stale.mkdir(parents=True)
    (stale / "main.py").touch()
    finished = tmp_path / "experiment" / "code-fedcba9876543210"
    finished.mkdir()

    storage.stage(files_of(code))

    assert not stale.exists()
    assert finished.is_dir()


def test_code_that_changes_while_it_is_staged_is_not_used(
    code: Path, storage: FolderStorage, tmp_path: Path
) -> None:
    files = files_of(code)
    (code / "main.py").write_text("print('later')\n")

    with pytest.raises(StagingError, match=r"main\.py changed while it was staged"):
        storage.stage(files)

    assert all(path.suffix == ".partial" for path in (tmp_path / "experiment").iterdir())


def test_a_file_in_place_of_the_experiments_folder_is_a_staging_error(code: Path, tmp_path: Path) -> None:
    (tmp_path / "experiment").touch()

    with pytest.raises(StagingError, match="could not be staged"):
        FolderStorage(tmp_path / "experiment").stage(files_of(code))


@pytest.mark.parametrize(
    "name",
    [
        "x" * 255,
        ".main.py.partial",
        "zwei Wörter.py",
        "line\nbreak.py",
        os.fsdecode(b"latin-\xe9.py"),
    ],
    ids=["as long as possible", "like a partial file", "umlaut", "newline", "not UTF-8"],
)
def test_any_file_name_is_staged(code: Path, storage: FolderStorage, name: str) -> None:
    (code / name).write_text("x")

    place = Path(storage.stage(files_of(code)))

    assert names_in(place) == {name, "main.py", "lib/net.py"}


def test_empty_files_and_an_empty_folder_are_staged(
    code: Path, storage: FolderStorage, tmp_path: Path
) -> None:
    (code / "__init__.py").touch()
    nothing = tmp_path / "root" / "nothing"
    nothing.mkdir()

    assert "__init__.py" in names_in(Path(storage.stage(files_of(code))))
    assert names_in(Path(storage.stage(files_of(nothing)))) == set()


def test_what_the_ignore_file_names_is_not_staged(code: Path) -> None:
    (code / ".nniignore").write_text("# data\ndata/\n*.log\n!keep.log\n/only_here.py\n")
    for name in ["data/a.bin", "lib/data/b.bin", "x.log", "keep.log", "only_here.py", "lib/only_here.py"]:
        (code / name).parent.mkdir(exist_ok=True)
        (code / name).touch()

    assert [file.name for file in files_of(code)] == ["keep.log", "lib/net.py", "lib/only_here.py", "main.py"]


@pytest.mark.parametrize("own_pattern", ["", "!.git/\n!__pycache__/\n!.nniignore\n"])
def test_git_caches_and_the_ignore_file_are_never_staged(code: Path, own_pattern: str) -> None:
    for folder in (".git", "__pycache__", "lib/__pycache__"):
        (code / folder).mkdir()
        (code / folder / "x").touch()
    (code / ".nniignore").write_text(own_pattern)

    assert [file.name for file in files_of(code)] == ["lib/net.py", "main.py"]


def test_what_would_be_refused_may_be_ignored(code: Path) -> None:
    (code / "away").symlink_to("/etc/hostname")
    (code / "nowhere").symlink_to("missing")
    (code / ".nniignore").write_text("away\nnowhere\n")

    assert [file.name for file in files_of(code)] == ["lib/net.py", "main.py"]


@pytest.mark.parametrize("kind", ["folder", "not UTF-8", "pattern"])
def test_an_ignore_file_that_cannot_be_used_is_a_problem(code: Path, kind: str) -> None:
    ignore = code / ".nniignore"
    if kind == "folder":
        ignore.mkdir()
    else:
        ignore.write_bytes(b"\xff\xfe\n" if kind == "not UTF-8" else b"!\n")

    files, problems = scan(code)

    assert files == []
    problem = only(problems)
    assert problem.field == ".nniignore"
    assert problem.file == str(code)
    assert "malformed pattern" in problem.rule if kind == "pattern" else "cannot be read" in problem.rule
    assert problem.remedy


def test_a_link_inside_the_root_is_followed_and_its_content_staged(
    code: Path, storage: FolderStorage
) -> None:
    shared = code.parent / "shared"
    shared.mkdir()
    (shared / "data.txt").write_text("42")
    (code / "shared").symlink_to(shared)
    (code / "copy.py").symlink_to("main.py")

    place = Path(storage.stage(files_of(code)))

    assert names_in(place) == {"main.py", "copy.py", "lib/net.py", "shared/data.txt"}
    assert not any(path.is_symlink() for path in place.rglob("*"))
    assert (place / "shared" / "data.txt").read_text() == "42"


@pytest.mark.parametrize("target", ["file", "folder", "through a link"])
def test_a_link_out_of_the_root_is_refused(code: Path, tmp_path: Path, target: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    if target == "through a link":
        (code.parent / "hop").symlink_to(outside)
        (code / "link").symlink_to("../hop/secret")
    else:
        (code / "link").symlink_to(outside if target == "folder" else outside / "secret")

    files, problems = scan(code)

    assert files == []
    problem = only(problems)
    assert "leads out of the allowed folder" in problem.rule
    assert (problem.field, problem.value) == ("trial.codeDir", "link")
    assert "TRIALFLOW_ALLOWED_ROOTS" in problem.remedy


def test_a_root_whose_name_begins_alike_is_another_root(code: Path) -> None:
    twin = code.parent.with_name("root-2")
    twin.mkdir()
    (twin / "secret").touch()
    (code / "link").symlink_to(twin / "secret")

    assert "leads out of" in only(scan(code)[1]).rule


@pytest.mark.parametrize("target", [".", "..", "../lib"])
def test_a_loop_of_links_is_refused(code: Path, target: str) -> None:
    (code / "lib" / "again").symlink_to(target)

    files, problems = scan(code)

    assert files == []
    assert problems
    assert all("link loop" in problem.rule for problem in problems)
    assert problems[0].value == "lib/again"


@pytest.mark.parametrize("target", ["missing", "dangling", "n" * 300], ids=["nowhere", "itself", "overlong"])
def test_a_link_that_leads_nowhere_is_refused(code: Path, target: str) -> None:
    (code / "dangling").symlink_to(target)

    problem = only(scan(code)[1])

    assert problem.value == "dangling"
    assert "nowhere or round in a circle" in problem.rule


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_what_is_neither_a_file_nor_a_folder_is_refused(
    code: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "pipe":
        os.mkfifo(code / "odd")
    else:
        monkeypatch.chdir(code)
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind("odd")

    problem = only(scan(code)[1])

    assert problem.value == "odd"
    assert "neither a file nor a folder" in problem.rule


def test_a_folder_that_cannot_be_listed_is_refused(code: Path) -> None:
    problem = only(scan(code / "main.py")[1][-1:])

    assert "cannot be read: Not a directory" in problem.rule


@pytest.mark.parametrize(("limit", "accepted"), [(27, True), (26, False)])
def test_more_bytes_than_allowed_are_refused(code: Path, limit: int, accepted: bool) -> None:
    assert sum(file.size for file in files_of(code)) == 27

    files, problems = scan(code, max_bytes=limit)

    assert bool(files) is accepted
    if not accepted:
        problem = only(problems)
        assert "26 bytes" in problem.rule
        assert "TRIALFLOW_MAX_CODE_BYTES" in problem.remedy


@pytest.mark.parametrize(("limit", "accepted"), [(2, True), (1, False)])
def test_more_files_than_allowed_are_refused(code: Path, limit: int, accepted: bool) -> None:
    files, problems = scan(code, max_files=limit)

    assert bool(files) is accepted
    if not accepted:
        problem = only(problems)
        assert "1 files" in problem.rule
        assert "TRIALFLOW_MAX_CODE_FILES" in problem.remedy


def test_links_that_multiply_the_folders_are_refused_in_time(code: Path) -> None:
    for level in range(30):
        (code.parent / f"level-{level}").mkdir()
        for name in "ab":
            (code.parent / f"level-{level}" / name).symlink_to(code.parent / f"level-{level + 1}")
    (code.parent / "level-30").mkdir()
    (code / "bomb").symlink_to(code.parent / "level-0")

    problems = scan(code, max_files=300)[1]

    assert "must not hold more than 300 files or folders" in only(problems).rule


def test_folders_nested_too_deeply_are_refused(code: Path) -> None:
    code.joinpath(*["d"] * 600).mkdir(parents=True)

    assert f"more than {MAX_DEPTH} folders deep" in only(scan(code)[1]).rule


def test_every_problem_of_a_code_folder_is_listed(code: Path) -> None:
    (code / "nowhere").symlink_to("missing")
    (code / "lib" / "away").symlink_to("/etc/hostname")
    os.mkfifo(code / "pipe")

    assert [problem.value for problem in scan(code)[1]] == ["lib/away", "nowhere", "pipe"]


def test_a_problem_with_a_name_that_is_not_text_can_be_printed(code: Path) -> None:
    (code / os.fsdecode(b"\xff\n")).symlink_to("missing")

    assert only(scan(code)[1]).value == r"\udcff\n"


def test_no_ignore_file_can_hold_up_whoever_lists_the_code(code: Path) -> None:
    (code / ".nniignore").write_text(f"{'*a' * 40}b\n")
    (code / ("a" * 200)).write_text("")

    began = time.process_time()
    files, problems = scan(code)

    assert time.process_time() - began < 2
    assert problems == []
    assert "a" * 200 in {file.name for file in files}


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ("a\n" * 1001, "must not have more than 1000 lines"),
        ("a" * 16_385, "must not have more than 1000 lines or 16384 bytes"),
        (("?" * 60 + "\n") * 268, "the patterns are too large"),
    ],
    ids=["lines", "bytes", "patterns"],
)
def test_an_ignore_file_without_measure_is_a_problem(code: Path, content: str, rule: str) -> None:
    (code / ".nniignore").write_text(content)
    assert rule in only(scan(code)[1]).rule


def test_an_ignore_file_that_is_no_file_is_not_waited_for(code: Path) -> None:
    os.mkfifo(code / ".nniignore")
    assert "not a plain file" in only(scan(code)[1]).rule


def test_an_ignore_file_may_be_a_link_inside_of_the_allowed_folder_only(code: Path, tmp_path: Path) -> None:
    (code / "patterns").write_text("*.py\n")
    (code / ".nniignore").symlink_to("patterns")
    assert {file.name for file in scan(code)[0]}.isdisjoint({"main.py"})

    (code / ".nniignore").unlink()
    (code / ".nniignore").symlink_to("/etc/hostname")
    assert "leads out of" in only(scan(code)[1]).rule


@pytest.mark.parametrize("grown", [True, False], ids=["larger", "smaller"])
def test_a_file_that_changes_while_it_is_staged_is_not_kept(code: Path, storage: FolderStorage, grown: bool) -> None:
    files = files_of(code)
    (code / "main.py").write_text("print('main')\n" * 2 if grown else "")

    with pytest.raises(StagingError, match=r"main\.py changed while it was staged"):
        storage.stage(files)


def test_ignored_files_are_not_looked_at_without_end(code: Path) -> None:
    (code / ".nniignore").write_text("*.bin\n")
    for number in range(200):
        (code / f"{number}.bin").touch()

    assert names_of(scan(code, max_files=10)) == ["lib/net.py", "main.py"]
    problem = only(scan(code, max_files=3)[1])
    assert problem.rule.startswith("must not hold more than 150 files, even if .nniignore names them")
    assert "data/ instead of data/*" in problem.remedy
    (code / ".nniignore").write_text("lib/\n")
    assert "files or folders" in only(scan(code, max_files=10)[1]).rule


def names_of(scanned: tuple[list[CodeFile], list[Problem]]) -> list[str]:
    files, problems = scanned
    assert not problems
    return [file.name for file in files]
