"""Requests over HTTP with the standard library alone: a client library takes longer to load than a server to answer.

Proxies are those of the environment, as other programs read it.
"""

from __future__ import annotations

import json as json_texts
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

if TYPE_CHECKING:
    from collections.abc import Mapping
    from email.message import Message

_TIMEOUT_SECONDS = 60.0


class NoAnswerError(Exception):
    """The server could not be reached, or did not answer in time."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Takes a redirection for an answer: a token must not be carried to where it leads."""

    def redirect_request(self, *_: Any) -> None:
        return None


@dataclass(frozen=True)
class Answer:
    """What a server answered; headers are looked up in any case."""

    status: int
    headers: Message[str, str]
    content: bytes

    @property
    def is_error(self) -> bool:
        """Whether it is anything but what was asked for."""
        return self.status >= 300

    @property
    def text(self) -> str:
        """The content as text."""
        return self.content.decode("utf-8", errors="replace")

    def json(self) -> Any:
        """The content, read as JSON."""
        return json_texts.loads(self.content)


def request(
    method: str,
    url: str,
    *,
    params: Mapping[str, Any] | None = None,
    json: Any = None,
    content: IO[bytes] | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = _TIMEOUT_SECONDS,
) -> Answer:
    """Make a request; a refusal is an answer, too.

    Args:
        method: ``GET`` and so on.
        url: Without a query.
        params: The query; what is ``None`` is left out.
        json: Sent as the body.
        content: Sent as the body as it is, with the header ``Content-Length``.
        headers: Besides those that follow from the body.
        timeout: Between two signs of life, in seconds.

    Raises:
        NoAnswerError: There is no answer.
    """
    query = urlencode({name: value for name, value in (params or {}).items() if value is not None})
    all_headers = {"Accept": "application/json", **(headers or {})}
    body: Any = content
    if json is not None:
        body = json_texts.dumps(json).encode()
        all_headers["Content-Type"] = "application/json"
    wanted = urllib.request.Request(_address(url, query), body, all_headers, method=method)  # noqa: S310  # see target
    try:
        with urllib.request.build_opener(_NoRedirects).open(wanted, timeout=timeout) as response:
            return Answer(response.status, response.headers, response.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.headers, error.read())
    except (OSError, HTTPException) as error:
        raise NoAnswerError(getattr(error, "reason", None) or error) from error


def _address(url: str, query: str) -> str:
    """The address with whatever a name in its path may hold: a run's id has colons and plus signs."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc, quote(parts.path, safe="/:@+%"), query, ""))
