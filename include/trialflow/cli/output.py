"""Showing things: tables on a terminal, tab-separated lines in a pipe, JSON when asked for.

What draws tables is imported inside: in a pipe, loading it would take longer than all the rest.
"""

from __future__ import annotations

import json
import re
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from trialflow.records import StrEnum, describe_parameters

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.table import Table


# What a terminal does something with, beyond colours, and beyond going back within the line as progress bars do. Others
# may write the clipboard, or what is typed next.
_HARMFUL = re.compile(r"\x1b(?!\[[0-9;:]{0,40}[mK])|[\x00-\x07\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f]")


class Form(StrEnum):
    """How to show things."""

    AUTO = "auto"
    PLAIN = "plain"
    JSON = "json"


def harmless(text: str) -> str:
    """A text that somebody else wrote, with nothing in it that a terminal obeys but colours."""
    return _HARMFUL.sub(lambda found: ascii(found[0])[1:-1], text)


def echo(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print a text; what is piped on stays as it is."""
    stream = sys.stderr if err else sys.stdout
    typer.echo(harmless(text) if stream.isatty() else text, err=err, nl=nl)


def show(rows: Sequence[Mapping[str, Any]], form: Form, raw: Any = None) -> None:
    """Show rows; a table has the keys of the first one above.

    Args:
        rows: What people see.
        form: How they want it.
        raw: What programs get as JSON; the rows when it is left out.
    """
    if form is Form.JSON:
        echo(json.dumps(rows if raw is None else raw, indent=2))
    elif is_drawn(form) and rows:
        from rich.console import Console

        Console().print(make_table(rows))
    else:
        cells = ((str(value).replace("\t", " ").replace("\n", " ") for value in row.values()) for row in rows)
        echo("".join("\t".join(row) + "\n" for row in cells), nl=False)


def tell(sentence: str, form: Form, raw: Any) -> None:
    """Say something; programs get ``raw`` as JSON."""
    if form is Form.JSON:
        show([], form, raw)
    else:
        echo(sentence)


def show_lines(lines: Sequence[str], form: Form) -> None:
    """Show lines as they are; programs get a list of them."""
    if form is Form.JSON:
        show([], form, lines)
    else:
        echo("".join(f"{line}\n" for line in lines), nl=False)


def is_drawn(form: Form) -> bool:
    """Whether things are drawn for a person at a terminal."""
    return form is Form.AUTO and sys.stdout.isatty()


@contextmanager
def busy(text: str) -> Iterator[None]:
    """Tell on a terminal what takes so long, while it does."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(text):
        yield


def make_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """A table with the keys above."""
    from rich.markup import escape
    from rich.table import Table

    names = list(rows[0]) if rows else []
    table = Table(box=None, header_style="bold", pad_edge=False, show_header=any(map(str.strip, names)))
    for name in names:
        table.add_column(name, overflow="fold" if name.strip() in ("", "parameters") else "ellipsis")
    for row in rows:
        table.add_row(*(escape(harmless(str(value))) for value in row.values()))
    return table


def describe_experiment(item: Mapping[str, Any]) -> dict[str, Any]:
    """An experiment in a list."""
    return {
        "id": item["id"],
        "name": item["experimentName"],
        "status": item["status"],
        "platform": item["platform"],
        "started": describe_time(item.get("startTime")),
        "ended": describe_time(item.get("endTime")),
    }


def describe_trial(item: Mapping[str, Any]) -> dict[str, Any]:
    """A trial in a list."""
    value = item.get("value")
    # In NNI's answers, a trial that waits has a start, too.
    start = None if item["status"] == "WAITING" else item.get("startTime")
    parameters = json.loads(item["hyperParameters"][0])["parameters"] if item["hyperParameters"] else {}
    return {
        "number": item["sequenceId"],
        "id": item["id"],
        "status": item["status"],
        "value": "" if value is None else f"{value:.6g}",
        "duration": describe_duration(start, item.get("endTime")),
        "parameters": describe_parameters(parameters),
        "reason": describe_reason(item.get("reason", "")),
    }


def describe_reason(reason: str) -> str:
    """Why a trial has its status: what happened, and the last line that it wrote."""
    first, *others = reason.splitlines() or [""]
    last = next((line.strip() for line in reversed(others) if line.strip()), "")
    return f"{first}: {last}" if last else first


def describe_time(milliseconds: float | None) -> str:
    """A moment, in local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(milliseconds / 1000)) if milliseconds else ""


def describe_duration(start: float | None, end: float | None) -> str:
    """How long something took, or has taken so far."""
    if start is None:
        return ""
    return describe_seconds(round((end / 1000 if end else time.time()) - start / 1000))


def describe_seconds(total: float) -> str:
    """A duration: 0:07, 2:05:00, or 3 days 0:00:00."""
    days, seconds = divmod(round(total), 86_400)
    if days:
        return f"{days} day{'s' if days > 1 else ''} {describe_seconds(seconds)}" if seconds else f"{days} days"
    hours, minutes = seconds // 3600, seconds // 60 % 60
    return f"{hours}:{minutes:02}:{seconds % 60:02}" if hours else f"{minutes}:{seconds % 60:02}"
