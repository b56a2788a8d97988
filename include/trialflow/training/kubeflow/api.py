"""The cluster's API as this package speaks it: plain JSON in and out, and errors of our own in front of the client.

    TrainingError
     └─ ClusterError          the API refused; carries the HTTP status
         ├─ ApiNotFoundError     404
         ├─ ApiConflictError     409
         ├─ ApiGoneError         410: a watch has to start anew with a list
         └─ UnreachableError  no answer, or none that counts: overloaded, restarting, half-way behind a proxy;
                              an `UnavailableError` as well

The official client does connections, certificates, proxies and tokens. Its typed methods and its own informer are not
used: both build model classes, and neither can hold a custom resource.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from trialflow.errors import TrainingError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kubernetes.client import ApiClient

    from trialflow.records import JsonObject

# NNI's own, which its files have no key for.
DEFAULT_NAMESPACE = "default"
# Connecting, and waiting for the answer.
_TIMEOUT_SECONDS = (5.0, 30.0)
# A server sends a bookmark about every minute; when nothing comes for so long, nobody is there any more.
_WATCH_TIMEOUT_SECONDS = (5.0, 180.0)
_SECRET = re.compile(r"(?i)bearer\s+\S+")


class ClusterError(TrainingError):
    """The cluster's API refused a request.

    Attributes:
        status: Of the HTTP answer; 0 when there was none.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class ApiNotFoundError(ClusterError):
    """There is no such object, or no such kind."""


class ApiConflictError(ClusterError):
    """There is an object of this name already."""


class ApiGoneError(ClusterError):
    """The version from which a watch was to go on is forgotten."""


class UnreachableError(ClusterError, UnavailableError):
    """The API did not answer, or not in a way that says anything about the request."""


_ERRORS: Mapping[int, type[ClusterError]] = {404: ApiNotFoundError, 409: ApiConflictError, 410: ApiGoneError}
_TRANSIENT = frozenset({0, 408, 429, 500, 502, 503, 504})


class WatchStream:
    """The events of a watch, one JSON object each, until the server ends it or somebody calls `close`."""

    def __init__(self, response: Any) -> None:
        self._response = response

    def __iter__(self) -> Iterator[JsonObject]:
        """Read events.

        Raises:
            ApiGoneError: The watch has to start anew with a list.
            ClusterError: The server ended the watch with an error.
            UnreachableError: The connection broke.
        """
        from urllib3.exceptions import HTTPError

        try:
            for line in self._response:
                if line.strip():
                    yield _event(json.loads(line))
        except (HTTPError, OSError, ValueError) as error:
            raise UnreachableError(f"the watch broke off: {_plain(error)}") from error
        finally:
            self._response.close()

    def close(self) -> None:
        """End the watch; may be called from another thread, which the reading one does not see coming."""
        from contextlib import suppress

        with suppress(OSError, RuntimeError, ValueError):
            self._response.shutdown()


def _event(event: JsonObject) -> JsonObject:
    if event.get("type") != "ERROR":
        return event
    status = event.get("object", {})
    code = int(status.get("code") or 0)
    raise _ERRORS.get(code, ClusterError)(f"the watch ended: {status.get('message', 'no reason given')}", code)


class ClusterApi:
    """Requests to one cluster.

    Args:
        client: The official client, configured.
        namespace: Where jobs are made unless the experiment names another namespace.
    """

    def __init__(self, client: ApiClient, namespace: str = DEFAULT_NAMESPACE) -> None:
        self._client = client
        self.namespace = namespace

    @property
    def address(self) -> str:
        """Of the API server, for messages."""
        return str(self._client.configuration.host)

    def get(self, path: str, **query: str) -> JsonObject:
        """Read an object or a list."""
        return self._json("GET", path, query)

    def create(self, path: str, body: JsonObject, **query: str) -> JsonObject:
        """Create an object.

        Raises:
            ApiConflictError: There is one of this name.
        """
        return self._json("POST", path, query, body)

    def delete(self, path: str, *, after_dependents: bool = False) -> bool:
        """Delete an object and what belongs to it; tells whether there was one.

        Args:
            path: Of the object.
            after_dependents: It stays, marked, until all that belongs to it is gone; otherwise it is gone at once.
        """
        policy = "Foreground" if after_dependents else "Background"
        try:
            self._json("DELETE", path, {}, {"propagationPolicy": policy})
        except ApiNotFoundError:
            return False
        return True

    def read_text(self, path: str, **query: str) -> bytes:
        """Read what is not JSON: a log."""
        return bytes(self._request("GET", path, query).data)

    def watch(self, path: str, **query: str) -> WatchStream:
        """Open a watch; its events are read from the stream."""
        return WatchStream(self._request("GET", path, {**query, "watch": "true"}, stream=True))

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._client.rest_client.pool_manager.clear()

    def _json(self, method: str, path: str, query: Mapping[str, str], body: JsonObject | None = None) -> JsonObject:
        response = self._request(method, path, query, body)
        answer = json.loads(response.data)
        assert isinstance(answer, dict), f"{method} {path} gave {type(answer).__name__}"
        return answer

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: JsonObject | None = None,
        *,
        stream: bool = False,
    ) -> Any:
        """One request below the client's typed methods, with its connections, headers and login."""
        from urllib3.exceptions import HTTPError

        client = self._client
        headers = dict(client.default_headers)
        client.update_params_for_auth(headers, [], ["BearerToken"])
        encoded = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
        try:
            response = client.rest_client.pool_manager.request(
                method,
                f"{self.address}{path}" + (f"?{encoded}" if encoded else ""),
                body=None if body is None else json.dumps(body),
                headers={**headers, "Content-Type": "application/json"},
                timeout=_timeout(_WATCH_TIMEOUT_SECONDS if stream else _TIMEOUT_SECONDS),
                preload_content=not stream,
            )
        except (HTTPError, OSError) as error:
            raise UnreachableError(f"the cluster's API at {self.address} does not answer: {_plain(error)}") from error
        if response.status >= 400:
            raise _refusal(method, path, response.status, response.data)
        return response


def _timeout(seconds: tuple[float, float]) -> Any:
    from urllib3.util import Timeout

    return Timeout(connect=seconds[0], read=seconds[1])


def _refusal(method: str, path: str, status: int, body: bytes) -> ClusterError:
    try:
        message = json.loads(body)["message"]
    except (ValueError, KeyError, TypeError):
        message = body.decode(errors="replace")
    kind = UnreachableError if status in _TRANSIENT else _ERRORS.get(status, ClusterError)
    return kind(f"the cluster's API answered {status} to {method} {path}: {_plain(message)[:500]}", status)


def _plain(error: object) -> str:
    return _SECRET.sub("bearer …", str(error))


def asks_operator(error: ClusterError) -> bool:
    """Whether a job was refused because the operator, whom the API server asks about each, did not answer."""
    return "failed calling webhook" in str(error)


def resource_path(group_version: str, namespace: str, plural: str, name: str = "") -> str:
    """The path of a namespaced kind, or of one object: ``v1`` is the core group, others are ``group/version``."""
    root = f"/api/{group_version}" if "/" not in group_version else f"/apis/{group_version}"
    return f"{root}/namespaces/{quote(namespace, safe='')}/{plural}" + (f"/{quote(name, safe='')}" if name else "")
