from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from trialflow.settings import Settings, get_settings


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"TRIALFLOW_{name.upper()}", raising=False)


def test_every_setting_has_a_default_and_a_description() -> None:
    assert Settings().batch_size == 20
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRIALFLOW_HOME", str(tmp_path))
    monkeypatch.setenv("TRIALFLOW_MAX_CODE_FILES", "7")
    monkeypatch.setenv("TRIALFLOW_TRIAL_SDK", "own")

    settings = Settings()

    assert (settings.home, settings.max_code_files, settings.trial_sdk) == (tmp_path, 7, "own")


@pytest.mark.parametrize("name", Settings.model_fields)
def test_a_variable_that_is_set_to_nothing_leaves_the_default(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"TRIALFLOW_{name.upper()}", "")

    assert Settings() == Settings.model_construct(home=Path("~/trialflow").expanduser())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAX_CODE_BYTES", "0"),
        ("MAX_CODE_FILES", "0"),
        ("BATCH_SIZE", "0"),
        ("BATCH_SIZE", "201"),
        ("WAIT_IN_WORKER_SECONDS", "-1"),
        ("TRIAL_ATTEMPTS", "0"),
        ("TRIAL_ATTEMPTS", "three"),
        ("TRIAL_SDK", "theirs"),
    ],
)
def test_a_setting_out_of_range_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"TRIALFLOW_{name}", value)

    with pytest.raises(ValidationError, match=name.lower()):
        Settings()


@pytest.mark.parametrize(
    ("value", "roots"),
    [
        ("", ()),
        ("/a", (Path("/a"),)),
        ("/a:/b c", (Path("/a"), Path("/b c"))),
        (":/a::", (Path("/a"),)),
    ],
)
def test_allowed_roots_are_split_at_colons(
    monkeypatch: pytest.MonkeyPatch, value: str, roots: tuple[Path, ...]
) -> None:
    monkeypatch.setenv("TRIALFLOW_ALLOWED_ROOTS", value)

    assert Settings().allowed_roots == roots


def test_the_home_is_absolute_with_the_tilde_expanded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    assert Settings(home=Path("~/flow")).home == tmp_path / "flow"
    assert Settings(home=Path("flow")).home == tmp_path / "flow"


def test_the_default_home_lies_in_the_home_of_the_user(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    assert Settings().home == tmp_path / "trialflow"


def test_the_store_is_a_file_in_the_home_unless_one_is_named(tmp_path: Path) -> None:
    assert Settings(home=tmp_path).store_url == f"sqlite:///{tmp_path}/trialflow.db"
    assert Settings(home=tmp_path, store="postgresql://db/x").store_url == "postgresql://db/x"


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().batch_size = 3


def test_a_process_reads_its_settings_once(monkeypatch: pytest.MonkeyPatch) -> None:
    get_settings.cache_clear()
    try:
        first = get_settings()
        monkeypatch.setenv("TRIALFLOW_BATCH_SIZE", "3")
        assert get_settings() is first
    finally:
        get_settings.cache_clear()
