"""A fake of the Kubernetes API: an HTTP server in this process that speaks as much of it as Trialflow does.

It keeps objects with resource versions, lists and watches them by label, forgets old versions (410), refuses what is
there already (409) or not allowed (403), tries creations out (dry run), and answers access reviews and discovery. What
a real API server would judge by its schemas, it judges by the few rules of `_objection`.
"""

from __future__ import annotations

import json
import re
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    from trialflow.records import JsonObject
    from trialflow.training.kubeflow.api import ClusterApi

TOKEN = "fake-token"  # noqa: S105  # opens nothing
JOB_NAME_LABEL = "training.kubeflow.org/job-name"
_ITEM = re.compile(
    r"/(?:api/(?P<core>v1)|apis/(?P<group>[^/]+)/(?P<version>[^/]+))/namespaces/(?P<namespace>[^/]+)/"
    r"(?P<plural>[^/]+)(?:/(?P<name>[^/]+)(?:/(?P<sub>[^/]+))?)?"
)
_GROUP = re.compile(r"/apis/(?P<group>[^/]+)(?:/(?P<version>[^/]+))?")
_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_NAME = re.compile(r"[a-z0-9]([-.a-z0-9]*[a-z0-9])?")
# A job's as the operator wants it.
_JOB_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_REPLICAS = {"tfjobs": ("tfReplicaSpecs", "tensorflow"), "pytorchjobs": ("pytorchReplicaSpecs", "pytorch")}


def now() -> str:
    """The time as Kubernetes writes it."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Collection:
    """The objects of one kind in one namespace; the group is empty for the core one."""

    group: str
    version: str
    namespace: str
    plural: str


@dataclass(frozen=True)
class Request:
    """A request as it came in; ``verb`` is Kubernetes' word for it."""

    verb: str
    resource: str
    path: str
    query: dict[str, str] = field(default_factory=dict)


class Refusal(Exception):  # noqa: N818  # an answer, not an error of ours
    """An answer other than success."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class FakeCluster:
    """The server and what it knows; a context manager.

    Attributes:
        requests: Everything that was asked, in order.
        served: Group → version → plurals, for discovery.
        denied: (resource, verb) pairs that are not allowed.
        is_away: While set, every request is answered with 503, and watches break off.
        has_webhook: Whether the operator judges jobs as well, which one from 1.8 on does while it runs.
        bookmark_seconds: How often a watch that wants bookmarks gets one.
        end_pod: Called with each pod that is deleted, before it is gone.
        logs: Pod name → its log.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.served: dict[str, dict[str, list[str]]] = {
            "kubeflow.org": {"v1": ["tfjobs", "tfjobs/status", "pytorchjobs"]},
            "apps": {"v1": ["deployments"]},
        }
        self.denied: set[tuple[str, str]] = set()
        self.is_away = False
        self.has_webhook = False
        self.bookmark_seconds = 60.0
        self.end_pod: Callable[[JsonObject], None] = lambda _pod: None
        self.logs: dict[str, bytes] = {}
        self._objects: dict[Collection, dict[str, JsonObject]] = {}
        self._history: list[tuple[int, Collection, str, JsonObject]] = []
        self._version = 1
        self._forgotten = 0
        self._generation = 0
        self.changed = threading.Condition(threading.RLock())
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.cluster = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> FakeCluster:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.end_watches()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def connect(self, namespace: str = "default") -> ClusterApi:
        """The official client, led here."""
        from kubernetes.client import ApiClient, Configuration

        from trialflow.training.kubeflow.api import ClusterApi

        settings = Configuration()
        settings.host = self.url
        settings.api_key = {"authorization": f"Bearer {TOKEN}"}
        return ClusterApi(ApiClient(settings), namespace)

    def kubeconfig(self, namespace: str = "default") -> JsonObject:
        """What a kubeconfig file that leads here holds."""
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "fake",
            "clusters": [{"name": "fake", "cluster": {"server": self.url}}],
            "users": [{"name": "fake", "user": {"token": TOKEN}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake", "namespace": namespace}}],
        }

    def count(self) -> Counter[str]:
        """How often each ``verb resource`` was asked for."""
        return Counter(f"{request.verb} {request.resource}" for request in self.requests)

    # ── what a test does behind the API ──────────────────────────────────────────────────────────────────────

    def all(self, plural: str) -> list[JsonObject]:
        """Every object of a kind, as it is now."""
        with self.changed:
            return [
                deepcopy(item)
                for key, items in self._objects.items()
                if key.plural == plural
                for item in items.values()
            ]

    def find(self, plural: str, name: str) -> JsonObject | None:
        """One object, or ``None``."""
        return next((item for item in self.all(plural) if item["metadata"]["name"] == name), None)

    def put(self, collection: Collection, item: JsonObject) -> JsonObject:
        """Create or change an object, as a controller does."""
        with self.changed:
            objects = self._objects.setdefault(collection, {})
            known = objects.get(item["metadata"]["name"])
            item = deepcopy(item)
            metadata = item["metadata"]
            metadata.setdefault("namespace", collection.namespace)
            metadata.setdefault("uid", str(uuid.uuid4()))
            metadata.setdefault("creationTimestamp", now())
            objects[metadata["name"]] = item
            self._publish(collection, "ADDED" if known is None else "MODIFIED", item)
            return deepcopy(item)

    def change(self, plural: str, name: str, change: Callable[[JsonObject], None]) -> bool:
        """Change an object in place; tells whether it was there."""
        with self.changed:
            for collection, objects in self._objects.items():
                if collection.plural == plural and name in objects:
                    change(objects[name])
                    self._publish(collection, "MODIFIED", objects[name])
                    return True
            return False

    def remove(self, plural: str, name: str) -> bool:
        """Delete an object and, of a job, its pods first."""
        with self.changed:
            found = next((key for key, items in self._objects.items() if key.plural == plural and name in items), None)
            if found is None:
                return False
            item = self._objects[found][name]
            if item["metadata"].get("deletionTimestamp"):
                return True
            item["metadata"]["deletionTimestamp"] = now()
            self._publish(found, "MODIFIED", item)
        if plural == "pods":
            self.end_pod(item)
        for pod in self.all("pods"):
            if pod["metadata"].get("labels", {}).get(JOB_NAME_LABEL) == name:
                self.remove("pods", pod["metadata"]["name"])
        with self.changed:
            self._publish(found, "DELETED", self._objects[found].pop(name))
        return True

    def forget_history(self) -> None:
        """Compact: watches from any version up to now are answered with 410."""
        with self.changed:
            self._history.clear()
            self._version += 1
            self._forgotten = self._version
        self.end_watches()

    def end_watches(self) -> None:
        """End every watch that is open, as a server does from time to time."""
        with self.changed:
            self._generation += 1
            self.changed.notify_all()

    def go_away(self) -> None:
        """Answer nothing any more, until `come_back`."""
        self.is_away = True
        self.end_watches()

    def come_back(self) -> None:
        """Answer again."""
        self.is_away = False

    def _publish(self, collection: Collection, kind: str, item: JsonObject) -> None:
        self._version += 1
        item["metadata"]["resourceVersion"] = str(self._version)
        self._history.append((self._version, collection, kind, deepcopy(item)))
        self.changed.notify_all()

    # ── what the API does ────────────────────────────────────────────────────────────────────────────────────

    def answer(self, method: str, path: str, query: dict[str, str], body: JsonObject | None) -> Any:
        """The JSON (or the text) that answers a request.

        Raises:
            Refusal: It is refused.
        """
        item = _ITEM.fullmatch(path)
        if self.is_away:
            raise Refusal(503, "the server is currently unable to handle the request")
        if path == _REVIEWS and body is not None:
            self._note(Request("create", "selfsubjectaccessreviews", path))
            return self._review(body)
        if item is None:
            self._note(Request("get", "discovery", path))
            return self._discover(path)
        collection = _collection(item)
        name = item["name"] and unquote(item["name"])
        verb = {"POST": "create", "DELETE": "delete"}.get(method, "get" if name else "list")
        resource = "/".join(filter(None, [collection.plural, item["sub"]]))
        self._note(Request(verb, resource, path, query))
        self._require(collection, resource, verb)
        if item["sub"] == "log":
            return self._log(name)
        if verb == "list":
            return self._list(collection, query)
        return self._act(verb, collection, name, query, body)

    def _act(
        self, verb: str, collection: Collection, name: str, query: dict[str, str], body: JsonObject | None
    ) -> JsonObject:
        if verb == "create":
            assert body is not None
            return self._create(collection, body, dry_run=query.get("dryRun") == "All")
        found = self._objects.get(collection, {}).get(name)
        if found is None:
            raise Refusal(404, f'{collection.plural} "{name}" not found')
        if verb == "delete":
            self._delete(collection, name, body or {})
        return deepcopy(found)

    def _delete(self, collection: Collection, name: str, options: JsonObject) -> None:
        if options.get("propagationPolicy") == "Foreground" and collection.plural not in _REPLICAS:
            # It would stay until the garbage collector has looked for its dependents, and there is none here.
            self.change(collection.plural, name, lambda item: item["metadata"].update(deletionTimestamp=now()))
        else:
            self.remove(collection.plural, name)

    def _note(self, request: Request) -> None:
        self.requests.append(request)

    def _require(self, collection: Collection, resource: str, verb: str) -> None:
        versions = self.served.get(collection.group)
        if collection.group and (versions is None or collection.plural not in versions.get(collection.version, [])):
            raise Refusal(404, "the server could not find the requested resource")
        if (resource, verb) in self.denied:
            raise Refusal(403, f'{resource} is forbidden: User "fake" cannot {verb} resource "{resource}"')

    def _create(self, collection: Collection, body: JsonObject, *, dry_run: bool) -> JsonObject:
        objection = _objection(collection, body)
        if objection:
            raise Refusal(422, objection)
        if self.has_webhook and collection.plural in _REPLICAS and not _JOB_NAME.fullmatch(body["metadata"]["name"]):
            webhook = "validator.job.training-operator.kubeflow.org"
            raise Refusal(403, f'admission webhook "{webhook}" denied the request: metadata.name: Invalid value')
        with self.changed:
            if body["metadata"]["name"] in self._objects.get(collection, {}):
                raise Refusal(409, f'{collection.plural} "{body["metadata"]["name"]}" already exists')
            return body if dry_run else self.put(collection, body)

    def _list(self, collection: Collection, query: dict[str, str]) -> JsonObject:
        with self.changed:
            items = [
                deepcopy(item) for item in self._objects.get(collection, {}).values() if matches(item, query)
            ]
            return {"kind": "List", "metadata": {"resourceVersion": str(self._version)}, "items": items}

    def _log(self, name: str) -> bytes:
        if name not in self.logs:
            raise Refusal(404, f'pods "{name}" not found')
        return self.logs[name]

    def _review(self, body: JsonObject) -> JsonObject:
        attributes = body["spec"]["resourceAttributes"]
        resource = "/".join(filter(None, [attributes["resource"], attributes.get("subresource")]))
        return {**body, "status": {"allowed": (resource, attributes["verb"]) not in self.denied}}

    def _discover(self, path: str) -> JsonObject:
        found = _GROUP.fullmatch(path)
        versions = self.served.get(found["group"], {}) if found else {}
        if not found or not versions or (found["version"] and found["version"] not in versions):
            raise Refusal(404, "the server could not find the requested resource")
        if found["version"]:
            return {"kind": "APIResourceList", "resources": [{"name": name} for name in versions[found["version"]]]}
        entries = [{"version": version, "groupVersion": f"{found['group']}/{version}"} for version in versions]
        return {"kind": "APIGroup", "versions": entries, "preferredVersion": entries[0]}

    def watch(self, path: str, query: dict[str, str]) -> Iterator[JsonObject]:
        """The events of a watch, from the version that it names.

        Raises:
            Refusal: It is refused.
        """
        item = _ITEM.fullmatch(path)
        assert item is not None, path
        collection = _collection(item)
        if self.is_away:
            raise Refusal(503, "the server is currently unable to handle the request")
        generation = self._generation
        self._note(Request("watch", collection.plural, path, query))
        self._require(collection, collection.plural, "watch")
        return self._events(collection, query, int(query.get("resourceVersion", self._version)), generation)

    def _events(
        self, collection: Collection, query: dict[str, str], seen: int, generation: int
    ) -> Iterator[JsonObject]:
        if seen < self._forgotten:
            yield {"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old resource version"}}
            return
        bookmark_at = time.monotonic() + self.bookmark_seconds
        while self._generation == generation:
            with self.changed:
                new = [entry for entry in self._history if entry[0] > seen]
                if not new:
                    self.changed.wait(0.05)
            for version, key, kind, item in new:
                seen = version
                if key == collection and matches(item, query):
                    yield {"type": kind, "object": item}
            if time.monotonic() > bookmark_at and query.get("allowWatchBookmarks") == "true":
                bookmark_at = time.monotonic() + self.bookmark_seconds
                yield {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(seen)}}}


def _collection(item: re.Match[str]) -> Collection:
    return Collection(item["group"] or "", item["version"] or "v1", unquote(item["namespace"]), item["plural"])


def matches(item: JsonObject, query: dict[str, str]) -> bool:
    """Whether an object is selected by ``labelSelector`` and ``fieldSelector``, of equalities only."""
    labels = item["metadata"].get("labels", {})
    wanted = [term.split("=", 1) for term in query.get("labelSelector", "").split(",") if term]
    fields = [term.split("=", 1) for term in query.get("fieldSelector", "").split(",") if term]
    return all(labels.get(name) == value for name, value in wanted) and all(
        _field(item, name) == value for name, value in fields
    )


def _field(item: JsonObject, path: str) -> Any:
    value: Any = item
    for part in path.split("."):
        value = value.get(part, {})
    return value


def _objection(collection: Collection, body: JsonObject) -> str:
    """Why an object is not accepted, as an API server would say that knows what the operator wants."""
    if collection.plural not in _REPLICAS:
        return ""
    key, container = _REPLICAS[collection.plural]
    if not _NAME.fullmatch(body["metadata"].get("name", "")):
        return f"metadata.name: Invalid value: {body['metadata'].get('name')!r}"
    for kind, replicas in body["spec"].get(key, {}).items():
        spec = replicas["template"]["spec"]
        unknown = set(spec) - _POD_KEYS
        if unknown:
            return f'strict decoding error: unknown field "spec.{key}.{kind}.template.spec.{min(unknown)}"'
        if container not in [item["name"] for item in spec["containers"]]:
            return f"spec.{key}.{kind}: there must be a container named {container}"
    return "" if body["spec"].get(key) else f"spec.{key}: Required value"


# Those of a pod's keys that a test may want to set.
_POD_KEYS = frozenset(
    {
        "containers",
        "initContainers",
        "volumes",
        "imagePullSecrets",
        "serviceAccountName",
        "automountServiceAccountToken",
        "terminationGracePeriodSeconds",
        "restartPolicy",
        "securityContext",
        "nodeSelector",
        "tolerations",
        "affinity",
    }
)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    cluster: FakeCluster


class _Handler(BaseHTTPRequestHandler):
    """Translates HTTP."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def do_DELETE(self) -> None:
        self._handle()

    def _handle(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        try:
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                raise Refusal(401, "Unauthorized")
            if query.get("watch") == "true":
                self._stream(self.server.cluster.watch(url.path, query))
            else:
                self._send(200, self.server.cluster.answer(self.command, url.path, query, body))
        except Refusal as refusal:
            self._send(refusal.status, {"kind": "Status", "code": refusal.status, "message": str(refusal)})

    def _send(self, status: int, answer: Any) -> None:
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        with suppress(OSError):  # Who asked has gone.
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    def _stream(self, events: Iterator[JsonObject]) -> None:
        with suppress(OSError):
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for event in events:
                line = json.dumps(event).encode() + b"\n"
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_arguments: Any) -> None:
        """Requests are in `FakeCluster.requests`."""
