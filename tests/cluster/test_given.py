"""That a cluster which is given to the tests is used instead of one of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.__main__ import up


def test_no_cluster_is_started_beside_one_that_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRIALFLOW_TEST_KUBECONFIG", str(tmp_path / "theirs"))
    up(tmp_path / "home")
    said = capsys.readouterr()
    assert said.out == f"export KUBECONFIG={tmp_path}/theirs\n"
    assert "unset it to start one" in said.err
    assert not (tmp_path / "home").exists()
