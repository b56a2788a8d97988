"""Which Airflow, and with which login: options, then the environment, then the file that ``login`` writes."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from trialflow.errors import TrialflowError


class TargetError(TrialflowError):
    """It is not known which Airflow is meant, or with which login."""


@dataclass(frozen=True)
class Target:
    """An Airflow.

    Attributes:
        url: Address of its API server.
        token: What ``POST /auth/token`` gave.
        source: Where the address comes from, for people.
    """

    url: str
    token: str
    source: str


def config_file() -> Path:
    """Where ``login`` keeps what it was given."""
    given = os.environ.get("TRIALFLOW_CLI_CONFIG")
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(given or f"{base}/trialflow/nnictl.json").expanduser()


def find_target(url: str | None, token: str | None) -> Target:
    """The Airflow that is meant.

    Args:
        url: As given by an option; the environment variable ``TRIALFLOW_URL`` comes next, then the file.
        token: In the same way, with ``TRIALFLOW_TOKEN``.

    Raises:
        TargetError: There is none, or no login for it.
    """
    kept = _read()
    known = (("--url", url), ("TRIALFLOW_URL", os.environ.get("TRIALFLOW_URL")), (str(config_file()), kept.get("url")))
    source, address = next(((source, address) for source, address in known if address), ("", ""))
    if not address:
        raise TargetError("no Airflow is known; log in once: nnictl login http://HOST:8080")
    address = _clean(address)
    # A stored token goes to the address that it was stored with, and nowhere else.
    kept_token = kept.get("token") if kept.get("url") == address else None
    found = token or os.environ.get("TRIALFLOW_TOKEN") or kept_token
    if not found:
        raise TargetError(f"there is no login for {address}; run: nnictl login {address}, or set TRIALFLOW_TOKEN")
    return Target(address, found, source)


def keep_target(url: str, token: str) -> Path:
    """Store a login, readable by its owner alone; tells where."""
    file = config_file()
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = file.with_name(f".{os.getpid()}.{file.name}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump({key: value for key, value in asdict(Target(_clean(url), token, "")).items() if value}, stream)
    partial.replace(file)
    return file


def is_private(url: str) -> bool:
    """Whether nobody on the way can read what is sent to an address: it is encrypted, or does not leave the machine."""
    parts = urlsplit(url)
    name = parts.hostname or ""
    with suppress(ValueError):
        return parts.scheme != "http" or ip_address(name).is_loopback
    return name == "localhost" or name.endswith(".localhost")


def _read() -> dict[str, str]:
    try:
        kept = json.loads(config_file().read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise TargetError(f"{config_file()} cannot be read ({error}); log in again: nnictl login URL") from error
    return kept if isinstance(kept, dict) else {}


def _clean(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise TargetError(f"an address begins with http:// or https://, not {url!r}")
    return url.rstrip("/")
