"""``nnictl``, also called ``trialflow``: the command line that NNI users know, as a client of Airflow's API server."""

from __future__ import annotations

from trialflow.cli.commands import app

__all__ = ["app", "main"]


def main() -> None:
    """The entry point of ``nnictl`` and ``trialflow``."""
    app()
