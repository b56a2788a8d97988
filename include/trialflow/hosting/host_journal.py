"""The calls that were made to an experiment's own classes, in a file; it lies beside `host`, which is no package's."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    Json = dict[str, Any]


class Journal:
    """The calls that count, in order."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: list[Json] = []
        self.by_key: dict[tuple[Any, ...], Json] = {}
        self.space: Json | None = None
        with path.open("a+b") as file:
            file.seek(0)
            content = file.read()
            whole = content[: content.rfind(b"\n") + 1]
            file.truncate(len(whole))  # What was cut off never counted.
        for line in whole.splitlines():
            self._take(json.loads(line))

    def find(self, call: Json) -> Json | None:
        """The answer to a call that was made before, or ``None``."""
        if call["call"] == "space":
            return {} if call["space"] == self.space else None
        return self.by_key.get(key_of(call))

    def add(self, call: Json, answer: Json) -> None:
        """Write a call down, for good when this returns."""
        record = {"call": call, "answer": answer}
        with self.path.open("ab") as file:
            file.write(json.dumps(record).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._take(record)

    def ended(self) -> list[int]:
        """The numbers of the trials whose end is known."""
        return [record["call"]["number"] for record in self.records if record["call"]["call"] == "end"]

    def imported(self) -> int:
        """How many results from elsewhere the classes know."""
        return sum(len(record["call"]["data"]) for record in self.records if record["call"]["call"] == "import")

    def asked(self) -> list[int]:
        """The numbers of the trials that got parameters."""
        return [key[1] for key in self.by_key if key[0] == "ask"]

    def _take(self, record: Json) -> None:
        self.records.append(record)
        call, answer = record["call"], record["answer"]
        if call["call"] == "space":
            self.space = call["space"]
        elif call["call"] != "ask" or "parameters" in answer:
            self.by_key[key_of(call)] = answer


def key_of(call: Json) -> tuple[Any, ...]:
    """What tells two calls apart."""
    if call["call"] == "space":
        return ("space", json.dumps(call["space"], sort_keys=True))
    if call["call"] == "assess":
        return ("assess", call["trial"], call["attempt"], call["step"])
    return (call["call"], call["key"] if call["call"] == "import" else call["number"])
