"""How calls come to the host of an experiment's own classes; it lies beside `host`, which is no package's."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from pathlib import Path

    Json = dict[str, Any]

TICK_SECONDS = 1.0
FIRST_CALL_SECONDS = 60.0


class Server:
    """Takes calls, one after the other."""

    def __init__(self, folder: Path, token: str) -> None:
        self.owner, self.token = folder / "owner.json", token
        self.socket = socket.socket(socket.AF_UNIX)
        # A folder's name may be longer than an address can be.
        handle = os.open(folder, os.O_RDONLY)
        self.socket.bind(f"/proc/self/fd/{handle}/socket")
        os.close(handle)
        (folder / "socket").chmod(0o600)
        self.socket.listen(64)
        self.socket.settimeout(TICK_SECONDS)

    def is_in_charge(self) -> bool:
        """Whether no other host was started in the place of this one, and the experiment's folder is still there."""
        try:
            return bool(json.loads(self.owner.read_text(encoding="utf-8"))["token"] == self.token)
        except (OSError, ValueError):
            return False

    def next_connection(self, patience: float) -> socket.socket | None:
        """The next connection; ``None`` when there will be none."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline and self.is_in_charge():
            with contextlib.suppress(TimeoutError):
                connection = self.socket.accept()[0]
                connection.settimeout(FIRST_CALL_SECONDS)
                return connection
        return None


def show_life(connection: socket.socket) -> None:
    """Tell whoever waits that something is being done."""
    with contextlib.suppress(OSError):
        connection.sendall(b"\n")


def take_lock(path: Path, connection: socket.socket) -> TextIO:
    """Wait until no other host works with the journal, on whatever machine."""
    lock = path.open("a")  # held until the process ends
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except BlockingIOError:
            show_life(connection)
            time.sleep(0.1)


def read_call(connection: socket.socket) -> Json | None:
    with connection.makefile("rb") as file:
        line = file.readline()
    call: Json | None = json.loads(line) if line.endswith(b"\n") else None
    return call


def reply(connection: socket.socket, answer: Json) -> None:
    with contextlib.suppress(OSError):
        connection.sendall(json.dumps(answer).encode() + b"\n")
