"""The commands that carry results from one experiment to another, in files.

A CSV file has a column ``value``, one per parameter, named ``parameter.NAME`` as in an experiment's ``trials.csv``, and
perhaps ``id``; a cell is JSON where it can be read as that, else text. Where no column has the prefix, as in files that
people write, each but ``id`` and ``value`` is a parameter's.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from trialflow.cli.client import NNI, Api, ApiError
from trialflow.cli.output import show, tell
from trialflow.cli.shared import ExperimentId, asking, fail
from trialflow.messages import is_formula

Kind = Literal["csv", "json"]
ExportKind = Literal["csv", "json", "optuna"]
_SUFFIXES = {"csv": "csv", "json": "json", "optuna": "db"}
# A study of many thousand trials takes its time.
_STUDY_SECONDS = 600.0
_PREFIX = "parameter."
# The server takes no more at once.
_PART_BYTES = 1 << 20
_PART_RESULTS = 10_000


def export(
    context: typer.Context,
    experiment: ExperimentId = None,
    file: Annotated[
        Path | None,
        typer.Option("--filename", "-f", help="Where to write; without it, ID.json and the like.", metavar="FILE"),
    ] = None,
    kind: Annotated[ExportKind, typer.Option("--type", "-t", help="The file's format; optuna: a study.")] = "json",
    intermediate: Annotated[bool, typer.Option("--intermediate", "-i", help="Intermediate ones, too.")] = False,
) -> None:
    """Write parameters and values of the trials that have one into a file, or all trials as an Optuna study.

    A study is an SQLite file. Show it with: optuna-dashboard sqlite:///FILE
    """
    if intermediate and kind == "csv":
        fail("intermediate results are lists, which a CSV file cannot hold; leave out --intermediate or --type csv")
    with asking(context) as (api, form):
        found = api.find(experiment)
        file = file or Path(f"{found['id']}.{_SUFFIXES[kind]}")
        if kind == "optuna":
            _export_study(api, found["id"], file, intermediate=intermediate)
            tell(f"The Optuna study {found['id']} was written to {file}", form, {"id": found["id"], "file": str(file)})
            return
        results = [_read_result(item) for item in api.get(f"/experiments/{found['id']}/export-data")]
        if intermediate:
            of_trial: dict[str, list[Any]] = defaultdict(list)
            for metric in api.get_all(f"/experiments/{found['id']}/metric-data", type="PERIODICAL"):
                of_trial[metric["trialJobId"]].append(json.loads(json.loads(metric["data"])))
            results = [{**result, "intermediate": of_trial[result["id"]]} for result in results]
        with _writing(file):
            _write(file, kind, results)
        written = {"id": found["id"], "trials": len(results), "file": str(file)}
        tell(f"{len(results)} trials of {found['id']} were written to {file}", form, written)


def import_data(
    context: typer.Context,
    file: Annotated[Path, typer.Option("--filename", "-f", help="What export wrote, or the like.", metavar="FILE")],
    experiment: ExperimentId = None,
    kind: Annotated[Kind | None, typer.Option("--type", "-t", help="Its format; else told by its name.")] = None,
) -> None:
    """Let an experiment's tuner know results from elsewhere; what was imported before is passed over."""
    with asking(context) as (api, form):
        results = _read(file, kind or ("csv" if file.suffix.lower() == ".csv" else "json"))
        found = api.find(experiment)
        total: Counter[str] = Counter()
        for part in _parts_of(results):
            path = f"{NNI}/experiments/{found['id']}/experiment/import-data"
            total.update(api.ask("POST", path, json=part).json())
        show([{"id": found["id"], **total}], form, dict(total))


def _parts_of(results: Any) -> Iterator[Any]:
    """What the server takes in one request each; what is no list it refuses as a whole."""
    part: list[Any] = []
    size = 0
    for result in results if isinstance(results, list) else ():
        length = len(json.dumps(result))
        if part and (size + length > _PART_BYTES or len(part) == _PART_RESULTS):
            yield part
            part, size = [], 0
        part.append(result)
        size += length
    yield part or results


def _export_study(api: Api, experiment_id: str, file: Path, *, intermediate: bool) -> None:
    params = {"intermediate": "true" if intermediate else None}
    path = f"{NNI}/experiments/{experiment_id}/export-study"
    study = api.ask("GET", path, params=params, timeout=_STUDY_SECONDS).content
    with _writing(file):
        file.write_bytes(study)


@contextmanager
def _writing(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ApiError(f"{file} cannot be written: {error.strerror}") from error


def _read_result(item: dict[str, Any]) -> dict[str, Any]:
    """A result with its metric as it was reported, and the trial's id as every version of NNI calls it."""
    trial_id = item["trialJobId"]
    return {"parameter": item["parameter"], "value": json.loads(item["value"]), "id": trial_id, "trialJobId": trial_id}


def _write(file: Path, kind: Kind, results: list[dict[str, Any]]) -> None:
    if kind == "json":
        file.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        return
    names = list(dict.fromkeys(name for result in results for name in result["parameter"]))
    with file.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["id", "value", *(f"{_PREFIX}{name}" for name in names)])
        for result in results:
            parameter = result["parameter"]
            cells = (_to_cell(parameter[name]) if name in parameter else "" for name in names)
            table.writerow([result["id"], _to_cell(result["value"]), *cells])


def _read(file: Path, kind: Kind) -> Any:
    try:
        # A spreadsheet may have put a mark at the beginning; ends of lines in a cell are the cell's own.
        with file.open(encoding="utf-8-sig", newline="") as stream:
            text = stream.read()
        return json.loads(text) if kind == "json" else _read_csv(text)
    except OSError as error:
        raise ApiError(f"{file} cannot be read: {error.strerror}") from error
    except (ValueError, csv.Error) as error:
        raise ApiError(f"{file} is not valid {kind.upper()}: {error}") from error
    except RecursionError as error:
        raise ApiError(f"{file} is not valid {kind.upper()}: it is nested too deeply") from error


def _read_csv(text: str) -> list[dict[str, Any]]:
    table = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    names = _find_parameters(list(table.fieldnames or ()))
    results = []
    for row in table:
        if None in row or None in row.values():
            raise ValueError(f"line {table.line_num} does not have a cell for each column")
        parameter = {name: _from_cell(row[column]) for column, name in names.items() if row[column] != ""}
        results.append({"parameter": parameter, "value": _from_cell(row["value"])})
    return results


def _find_parameters(columns: list[str]) -> dict[str, str]:
    """Column → the parameter that it holds; a file that may mean two things is refused."""
    if "value" not in columns:
        raise ValueError("it needs a column value")
    twice = next((column for column in columns if columns.count(column) > 1), None)
    if twice is not None:
        raise ValueError(f"two columns are called {twice!r}; call that of a parameter {_PREFIX}{twice}")
    others = [column for column in columns if column not in ("id", "value")]
    bare = [column for column in others if not column.startswith(_PREFIX)]
    if bare and bare != others:
        raise ValueError(f"of the columns beside id and value, all or none begin with {_PREFIX}, but not {bare[0]!r}")
    return {column: column.removeprefix(_PREFIX) for column in others}


def _to_cell(value: Any) -> str:
    """Text stays as it is, unless it would be read back as something else, or by a spreadsheet as a formula."""
    if isinstance(value, str) and value and _from_cell(value) == value and not is_formula(value):
        return value
    return json.dumps(value)


def _from_cell(cell: str) -> Any:
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        return cell
