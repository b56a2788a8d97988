"""A notifier as a user has one, which writes what it tells to a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from airflow.sdk import BaseNotifier

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context


class FileNotifier(BaseNotifier):
    """Appends a line.

    Args:
        file: The file's path.
        text: The line; a template.
    """

    template_fields: Sequence[str] = ("text",)

    def __init__(self, file: str, text: str) -> None:
        super().__init__()
        self.file = file
        self.text = text

    def notify(self, context: Context) -> None:
        with Path(self.file).open("a") as file:
            file.write(f"{self.text}\n")
