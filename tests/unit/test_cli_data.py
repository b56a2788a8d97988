"""Results on their way from one experiment to another, in files that spreadsheets and people touch, too."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from .cli_lab import FakeAirflow, airflow, config, logged_in, run

__all__ = ["airflow", "config", "logged_in"]  # Fixtures.


def test_results_are_exported_as_csv_and_as_json(logged_in: FakeAirflow, tmp_path: Path) -> None:
    for kind in ("csv", "json"):
        assert run("experiment", "export", "-f", str(tmp_path / kind), "--type", kind).exit_code == 0
    head, row = (tmp_path / "csv").read_text().splitlines()
    assert (head, row) == ("id,value,parameter.lr,parameter.n", 'T0001,0.5,0.1,"{""_name"": ""a""}"')
    assert json.loads((tmp_path / "json").read_text())[0]["value"] == 0.5


def test_a_study_is_written_as_the_server_sends_it(logged_in: FakeAirflow, tmp_path: Path) -> None:
    file = tmp_path / "study.db"
    done = run("experiment", "export", "-f", str(file), "-t", "optuna")
    assert (done.exit_code, file.read_bytes()) == (0, logged_in.study), done.output
    assert "was written to" in done.output


def test_a_file_without_a_name_is_called_after_the_experiment(
    logged_in: FakeAirflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("experiment", "export", "abcd2222", "-t", "csv").exit_code == 0
    assert [file.name for file in tmp_path.glob("abcd2222*")] == ["abcd2222.csv"]


PARAMETERS = [
    {"lr": 0.1, "n": {"_name": "a", "k": [1, None]}, "text": "1", "flag": True, "name": "plain text"},
    {"tab": "\t=1", "return": "\r=1", "line": "\n=1"},
    {"lr": -1e-7, "formula": "=1+1", "empty": "", "null": None, "comma": 'a,"b"\nc'},
    {"deep": "[" * 50_000},
    {"value": 3, "id": "x", "parameter.id": "y", "lines": "a\u2028b\x1cc\r\nd\re"},
]


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_what_is_exported_can_be_imported_as_it_was(logged_in: FakeAirflow, tmp_path: Path, kind: str) -> None:
    metric = {"default": 0.5, "loss": [0.25, None]}
    logged_in.results = [
        {"parameter": body, "value": json.dumps(metric), "trialJobId": "T0001"} for body in PARAMETERS
    ]
    file = str(tmp_path / f"results.{kind}")
    assert run("experiment", "export", "-f", file, "--type", kind).exit_code == 0

    done = run("experiment", "import", "-f", file)

    assert (done.exit_code, done.output) == (0, "abcd1111\t2\t0\t1\n"), done.output
    method, path, body = logged_in.asked[-1]
    assert (method, path) == ("POST", "/experiments/abcd1111/experiment/import-data")
    assert [(item["parameter"], item["value"]) for item in body] == [(parameters, metric) for parameters in PARAMETERS]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "[1", "is not valid JSON"),
        ("a.json", "[" * 100_000, "nested too deeply"),
        ("a.csv", "id,lr\n1,2\n", "is not valid CSV: it needs a column value"),
        ("a.csv", "id,value,value\n1,2,3\n", "two columns are called 'value'; call that of a parameter parameter"),
        ("a.csv", "value,parameter.lr,n\n1,2,3\n", "all or none begin with parameter., but not 'n'"),
        ("a.csv", "value,lr\n1\n", "line 2 does not have a cell for each column"),
        ("missing.csv", None, "cannot be read: No such file"),
    ],
)
def test_a_file_that_cannot_be_imported_is_refused_before_anything_is_sent(
    logged_in: FakeAirflow, tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    done = run("experiment", "import", "-f", str(tmp_path / name))
    assert (done.exit_code, message in done.output) == (1, True)
    assert logged_in.asked == []


def test_a_table_that_people_write_is_imported_without_prefixes(logged_in: FakeAirflow, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("id,lr,value\r\n7,0.1,0.5\r\n", encoding="utf-8-sig")
    assert run("experiment", "import", "-f", str(tmp_path / "mine.csv")).exit_code == 0
    assert logged_in.asked[-1][2] == [{"parameter": {"lr": 0.1}, "value": 0.5}]


def test_no_cell_begins_like_a_formula(logged_in: FakeAirflow, tmp_path: Path) -> None:
    texts = [f"{blank}{mark}1" for blank in ("", "\t", "\r", "\n", "\r\n") for mark in "=+-@"]
    logged_in.results = [{"parameter": {"x": text}, "value": "1", "trialJobId": text} for text in texts]
    assert run("experiment", "export", "-f", str(tmp_path / "a.csv"), "--type", "csv").exit_code == 0
    with (tmp_path / "a.csv").open(newline="") as file:
        cells = [row["parameter.x"] for row in csv.DictReader(file)]
    assert all(cell.startswith('"') for cell in cells)
    assert [json.loads(cell) for cell in cells] == texts


@pytest.mark.parametrize(("count", "length", "parts"), [(25_000, 1, 3), (60, 50_000, 3), (1, 2_000_000, 1), (0, 0, 1)])
def test_results_are_imported_in_parts_that_the_server_takes(
    logged_in: FakeAirflow, tmp_path: Path, count: int, length: int, parts: int
) -> None:
    results = [{"parameter": {"x": "x" * length}, "value": number} for number in range(count)]
    (tmp_path / "a.json").write_text(json.dumps(results))

    done = run("experiment", "import", "-f", str(tmp_path / "a.json"))

    assert (done.exit_code, done.output) == (0, f"abcd1111\t{2 * parts}\t0\t{parts}\n"), done.output
    bodies = [body for method, _, body in logged_in.asked if method == "POST"]
    assert len(bodies) == parts
    assert [item for body in bodies for item in body] == results
