"""Watching jobs: one LIST and one WATCH per process, however many trials are followed and however long they run.

An informer keeps the present state of every job of ours in one namespace. It starts with the first question and ends
when nobody has asked for a while. What it has not heard of it asks for by name, so that an answer is never older than
the question: a job that was created a moment ago is not taken for a deleted one.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from trialflow.training.kubeflow.api import ApiGoneError, ApiNotFoundError, ClusterApi, ClusterError, UnreachableError
from trialflow.training.kubeflow.names import MANAGED_BY, MANAGER, selector

if TYPE_CHECKING:
    from trialflow.records import JsonObject
    from trialflow.training.kubeflow.api import WatchStream

logger = logging.getLogger(__name__)

_SELECTOR = selector({MANAGED_BY: MANAGER})
_IDLE_SECONDS = 120.0
_FIRST_LIST_SECONDS = 10.0
_FIRST_DELAY_SECONDS, _LONGEST_DELAY_SECONDS = 0.5, 30.0


class JobInformer:
    """The jobs of one kind in one namespace.

    Args:
        api: The cluster.
        path: Of the jobs' collection.
    """

    def __init__(self, api: ClusterApi, path: str) -> None:
        self._api = api
        self._path = path
        self._jobs: dict[str, JsonObject] = {}
        self._version: str | None = None
        self._trouble: ClusterError | None = None
        self._lock = threading.Lock()
        # Set by the first list, and by the first failure of one: nobody waits for an API that is away.
        self._answered = threading.Event()
        self._stopped = threading.Event()
        self._stream: WatchStream | None = None
        self._thread: threading.Thread | None = None
        self._asked_at = time.monotonic()

    def get(self, name: str) -> JsonObject | None:
        """The job as it is now; ``None`` when there is none.

        Raises:
            UnreachableError: The API is away, and nothing is known of the job.
            ClusterError: The API refuses to say.
        """
        self._asked_at = time.monotonic()
        self._ensure_running()
        self._answered.wait(_FIRST_LIST_SECONDS)
        job = self._jobs.get(name)
        if job is not None:
            return job
        if self._version is None:
            raise self._trouble or UnreachableError("the cluster's API has not given a list of the jobs yet")
        try:
            return self._api.get(f"{self._path}/{name}")
        except ApiNotFoundError:
            return None

    def version_of(self, name: str) -> str | None:
        """The version of the job as it was heard of last; ``None`` when nothing is known of it."""
        job = self._jobs.get(name)
        return None if job is None else str(job["metadata"]["resourceVersion"])

    def forget(self, name: str) -> None:
        """Ask for the job by name next time, because it was just deleted from here."""
        self._jobs.pop(name, None)

    def close(self) -> None:
        """End the watch, and wait until its thread is gone."""
        self._stopped.set()
        thread, stream = self._thread, self._stream
        if stream is not None:
            stream.close()
        if thread is not None:
            thread.join(_FIRST_LIST_SECONDS)

    @property
    def is_running(self) -> bool:
        """Whether it watches."""
        return self._thread is not None and self._thread.is_alive()

    def _ensure_running(self) -> None:
        with self._lock:
            if self.is_running or self._stopped.is_set():
                return
            self._version, self._jobs = None, {}
            self._answered.clear()
            self._thread = threading.Thread(target=self._run, name=f"watch {self._path}", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        delay = _FIRST_DELAY_SECONDS
        while not self._may_end():
            try:
                if self._version is None:
                    self._list()
                    delay = _FIRST_DELAY_SECONDS
                opened_at = time.monotonic()
                self._watch()
                if time.monotonic() - opened_at > delay:
                    delay = _FIRST_DELAY_SECONDS
                    continue  # The server ends a watch every half hour or so.
            except ApiGoneError:
                logger.info("%s: the watch is too far behind; listing anew", self._path)
                self._version = None
            except ClusterError as error:
                self._note_trouble(error)
            self._stopped.wait(delay)
            delay = min(2 * delay, _LONGEST_DELAY_SECONDS)

    def _may_end(self) -> bool:
        return self._stopped.is_set() or time.monotonic() - self._asked_at > _IDLE_SECONDS

    def _list(self) -> None:
        answer = self._api.get(self._path, labelSelector=_SELECTOR)
        self._jobs = {job["metadata"]["name"]: job for job in answer.get("items", [])}
        self._version = answer["metadata"]["resourceVersion"]
        self._trouble = None
        self._answered.set()

    def _watch(self) -> None:
        assert self._version is not None
        query = {"labelSelector": _SELECTOR, "resourceVersion": self._version, "allowWatchBookmarks": "true"}
        self._stream = self._api.watch(self._path, **query)
        try:
            if self._stopped.is_set():  # By a `close` that came before the stream was there to be closed.
                return
            for event in self._stream:
                self._take(event)
                if self._may_end():
                    return
        finally:
            self._stream.close()
            self._stream = None

    def _take(self, event: JsonObject) -> None:
        job = event["object"]
        if event["type"] == "DELETED":
            self._jobs.pop(job["metadata"]["name"], None)
        elif event["type"] in ("ADDED", "MODIFIED"):
            self._jobs[job["metadata"]["name"]] = job
        self._version = job["metadata"]["resourceVersion"]

    def _note_trouble(self, error: ClusterError) -> None:
        if not self._stopped.is_set():
            logger.warning("%s: %s", self._path, error)
            self._trouble = error
            self._answered.set()


class Informers:
    """Every informer of this process, one per cluster and collection."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._informers: dict[tuple[int, str], tuple[ClusterApi, JobInformer]] = {}

    def of(self, api: ClusterApi, path: str) -> JobInformer:
        """The informer of a collection; the same one for everybody."""
        with self._lock:
            # The API is kept beside its informer, so that no other one can get its identity.
            return self._informers.setdefault((id(api), path), (api, JobInformer(api, path)))[1]

    def close(self) -> None:
        """End them all."""
        with self._lock:
            informers, self._informers = list(self._informers.values()), {}
        for _, informer in informers:
            informer.close()


informers = Informers()
