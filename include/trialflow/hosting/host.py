"""The process that hosts an experiment's own classes; it runs user code, imports nothing of Trialflow, and no more than
the standard library.

    host.py FOLDER TOKEN

Its working folder, FOLDER, is all that it shares with whoever calls it:

    plan.json     which classes it hosts, and where their code lies
    journal       one line for each call that was made to them, with its answer
    owner.json    which host is in charge; one that is not named there any more retires
    lock          held (flock) by the host in charge
    socket        takes one call per connection: a line of JSON, answered by another one
    log           its output, and that of the classes

The journal is written after a call has come to its end and before it is answered. A call that takes a while is answered
before that: it goes on, and the same call is to be made again. So a host that is killed at any
point leaves the list of calls that count, and the next one repeats exactly these. A call that is in the journal is not
made again: whoever asks twice gets the same answer.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import json
import logging
import os
import queue
import random
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Beside this script.
from host_code import add_code
from host_journal import Journal, key_of
from host_server import Server, read_call, reply, show_life, take_lock

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    Json = dict[str, Any]

# A host that nobody has called for so long ends; the next call builds another one.
IDLE_SECONDS = 24 * 3600.0
FIRST_CALL_SECONDS = 60.0
# How long an answer is waited for; meanwhile whoever calls holds the study's lock.
PATIENCE_SECONDS = 1.0
# How long a class may take to come to its end.
END_SECONDS = 5.0
MOST_FRAMES = 20
_NEW_STYLE = ("nni.runtime.protocol", "nni.runtime.tuner_command_channel", "nni.runtime.msg_dispatcher_base")

logger = logging.getLogger("trialflow.host")


class TunerAndAssessor:
    """A tuner and an assessor, one of which may be missing."""

    def __init__(self, plan: Json) -> None:
        self.tuner = _make(plan.get("tuner"))
        self.assessor = _make(plan.get("assessor"))
        self.parameters: dict[int, Json] = {}
        # By trial and attempt: the intermediate metrics so far.
        self.histories: dict[tuple[str, int], list[Any]] = {}

    def handle_space(self, call: Json) -> Json:
        self.tuner.update_search_space(call["space"])
        return {}

    def handle_ask(self, call: Json) -> Json:
        suggested = self.tuner.generate_multiple_parameters([call["number"]])
        if not suggested:
            return {}
        return {"parameters": _checked(suggested[0], "generate_parameters of the tuner")}

    def adopt(self, call: Json, answer: Json) -> None:
        """Remember what was handed out."""
        if call["call"] == "ask" and "parameters" in answer:
            self.parameters[call["number"]] = answer["parameters"]

    def handle_assess(self, call: Json) -> Json:
        history = self.histories.setdefault((call["trial"], call["attempt"]), [])
        history[call["step"] - 1 :] = [call["value"]]
        result = self.assessor.assess_trial(call["trial"], list(history))
        good = getattr(result, "value", result)
        if not isinstance(good, bool):
            raise TypeError(f"assess_trial must return an AssessResult; got {type(result).__name__}: {result!r:.200}")
        return {"good": good}

    def handle_end(self, call: Json) -> Json:
        if self.tuner is not None:
            if "value" in call:
                self._receive(call)
            self.tuner.trial_end(call["number"], call["status"] == "SUCCEEDED")
        if self.assessor is not None:
            self.assessor.trial_end(call["trial"], call["status"] == "SUCCEEDED")
        return {}

    def _receive(self, call: Json) -> None:
        number = call["number"]
        customized = number not in self.parameters
        receive = self.tuner.receive_trial_result
        extra = {"trial_job_id": call["trial"], "customized": customized}
        if customized and not getattr(self.tuner, "_accept_customized", False):
            receive, extra = self.tuner.receive_customized_trial_result, {}
        receive(number, self.parameters.get(number, call["parameters"]), call["value"], **_accepted(receive, extra))

    def handle_import(self, call: Json) -> Json:
        self.tuner.import_data(call["data"])
        return {}

    def close(self) -> None:
        for algorithm in (self.tuner, self.assessor):
            if algorithm is not None:
                algorithm._on_exit()


class Advisor:
    """An advisor, which answers requests for trials with commands, at once or in a later call."""

    def __init__(self, plan: Json) -> None:
        from nni import _commands

        self.outbox = _commands.outbox
        self.advisor = _make(plan["advisor"])
        self.is_new_style = any(name in sys.modules for name in _NEW_STYLE)
        self.initialized = False
        self.suggested: list[Json] = []
        self.requested = 0
        # By the number of a trial: the advisor's own message.
        self.messages: dict[int, Json] = {}

    def handle_space(self, call: Json) -> Json:
        handle = self.advisor.handle_update_search_space if self.initialized else self.advisor.handle_initialize
        self.initialized = True
        handle(call["space"])
        return self._read_outbox()

    def handle_ask(self, call: Json) -> Json:  # noqa: ARG002  # an advisor does not know of numbers
        if not self.suggested and not self.requested:
            self.requested += 1
            self.advisor.handle_request_trial_jobs(1)
        answer = self._read_outbox()
        if not self.suggested:
            return answer
        message = self.suggested.pop(0)
        parameters = _checked(message.get("parameters"), "NewTrialJob of the advisor")
        return {**answer, "parameters": parameters, "message": message}

    def adopt(self, call: Json, answer: Json) -> None:
        if call["call"] == "ask" and "parameters" in answer:
            self.messages[call["number"]] = answer["message"]

    def handle_assess(self, call: Json) -> Json:
        if call["number"] not in self.messages:
            return {"good": True, "kill": []}  # It is none of the advisor's.
        self._report(call, "PERIODICAL", call["step"] - 1, call["value"])
        answer = self._read_outbox()
        return {**answer, "good": call["trial"] not in answer["kill"]}

    def handle_end(self, call: Json) -> Json:
        if call["number"] not in self.messages:
            self.messages[call["number"]] = {
                "parameter_id": call["number"], "parameter_source": "customized", "parameters": call["parameters"],
            }  # fmt: skip
            self.advisor.handle_add_customized_trial(self.messages[call["number"]])
        if "value" in call:
            self._report(call, "FINAL", 0, call["value"])
        hyper_params = json.dumps(self.messages[call["number"]])
        self.advisor.handle_trial_end(
            {"trial_job_id": call["trial"], "event": call["status"], "hyper_params": hyper_params}
        )
        return self._read_outbox()

    def _report(self, call: Json, kind: str, sequence: int, value: Any) -> None:
        self.advisor.handle_report_metric_data(
            {
                "parameter_id": self.messages[call["number"]]["parameter_id"],
                "trial_job_id": call["trial"],
                "type": kind,
                "sequence": sequence,
                # NNI 1.x hands the value over as it is, 2.x and 3.0 a JSON text of it.
                "value": json.dumps(value) if self.is_new_style else value,
            }
        )

    def handle_import(self, call: Json) -> Json:
        self.advisor.handle_import_data(call["data"])
        return self._read_outbox()

    def _read_outbox(self) -> Json:
        """Take in what the advisor has sent."""
        killed = []
        while self.outbox:
            command, data = self.outbox.popleft()
            if command.name == "NewTrialJob":
                self.suggested.append(json.loads(data))
                self.requested = max(0, self.requested - 1)
            elif command.name == "KillTrialJob":
                killed.append(json.loads(data))
            elif command.name == "SendTrialJobParameter":
                raise NotImplementedError("SendTrialJobParameter belongs to multiPhase, which Trialflow does not have")
        return {"kill": killed}

    def close(self) -> None:
        on_exit = getattr(self.advisor, "_on_exit", None)
        if on_exit is not None:
            on_exit()


class Running:
    """A call that is being made."""

    def __init__(self, call: Json) -> None:
        self.call = call
        self.since = time.monotonic()
        self.is_done = threading.Event()
        self.outcome: Json = {}


class Host:
    """The classes and their journal.

    The main thread makes the calls, one after the other. With multiThread every ask has a thread of its own: a tuner
    may wait in there for another trial's result. The server's thread hands the calls over and waits for none of them
    longer than `PATIENCE_SECONDS`; whoever calls again gets the answer of the call that was begun.
    """

    def __init__(self, plan: Json, journal: Journal, show_life: Callable[[], None]) -> None:
        self.journal = journal
        self.threads = bool(plan.get("threads"))
        self.hosted = Advisor(plan) if plan.get("advisor") else TunerAndAssessor(plan)
        self.running: dict[tuple[Any, ...], Running] = {}
        self.main: queue.Queue[Running | None] = queue.Queue()
        self.lock = threading.Lock()
        self.last_done = 0.0
        self.is_closed = False
        for record in journal.records:
            self._repeat(record["call"], record["answer"])
            show_life()
        if journal.records:
            logger.info("%d calls were repeated", len(journal.records))

    def _repeat(self, call: Json, answer: Json) -> None:
        if self._is_threaded(call):  # It may wait for calls that stand behind it.
            thread = threading.Thread(target=self._compare, args=(call, answer), daemon=True)
            thread.start()
            thread.join(PATIENCE_SECONDS)
        else:
            self._compare(call, answer)
        self.hosted.adopt(call, answer)

    def _compare(self, call: Json, answer: Json) -> None:
        again = self._make_call(call)
        if again != answer:
            logger.warning("the classes answer %s with %s now, and answered %s before, which counts: is a random "
                           "generator without a seed?", _short(call), _short(again), _short(answer))  # fmt: skip

    def answer(self, call: Json) -> Json:
        """Make a call, unless it was made before; tells what is being done, and for how long, if that takes a while."""
        with self.lock:
            if call["call"] == "known":
                journal = self.journal
                return {"ended": journal.ended(), "asked": journal.asked(), "imported": journal.imported()}
            known: Json | None = self.journal.find(call)
        if known is not None:
            self.running.pop(key_of(call), None)
            return known
        awaited = self._begin(call)
        if not awaited.is_done.wait(PATIENCE_SECONDS) or awaited.call != call:
            since = max(awaited.since, self.last_done)
            return {"busy": time.monotonic() - since, "while": awaited.call["call"]}
        self.running.pop(key_of(call), None)
        return awaited.outcome

    def _begin(self, call: Json) -> Running:
        """Have a call made; gives another one that has to come to its end before."""
        key = key_of(call)
        if key in self.running:
            return self.running[key]
        if not self._is_threaded(call):
            for other in [*self.running.values()]:
                if not self._is_threaded(other.call) and not other.is_done.wait(PATIENCE_SECONDS):
                    return other
        running = self.running[key] = Running(call)
        if self._is_threaded(call):
            threading.Thread(target=self.make, args=(running,), daemon=True).start()
        else:
            self.main.put(running)
        return running

    def _is_threaded(self, call: Json) -> bool:
        return self.threads and call["call"] == "ask"

    def make(self, running: Running) -> None:
        """Make a call that was begun."""
        call = running.call
        try:
            answer = self._make_call(call)
            with self.lock:
                self.journal.add(call, answer)
                self.hosted.adopt(call, answer)
            running.outcome = answer
        except BaseException as error:  # a class may raise anything, SystemExit too
            logger.exception("a class failed in the call %s", _short(call))
            running.outcome = {**describe(error), "while": call["call"]}
        self.last_done = time.monotonic()
        running.is_done.set()

    def _make_call(self, call: Json) -> Json:
        answer = getattr(self.hosted, "handle_" + call["call"])(call)
        # As it comes out of the journal.
        as_read: Json = json.loads(json.dumps(answer, default=plain, allow_nan=False))
        return as_read


def plain(value: Any) -> Any:
    """A JSON value for numpy's scalars and arrays."""
    for method in ("tolist", "item"):
        convert = getattr(value, method, None)
        if convert is not None:
            return convert()
    raise TypeError(f"parameters must be JSON; got {type(value).__name__}: {value!r:.200}")


def _make(plan: Json | None) -> Any:
    if plan is None:
        return None
    module = importlib.import_module(plan["module"])
    return getattr(module, plan["class"])(**plan["args"])


def _checked(parameters: Any, of: str) -> Json:
    if not isinstance(parameters, dict):
        raise TypeError(f"{of} must give a dict; got {type(parameters).__name__}: {parameters!r:.200}")
    return parameters


def _accepted(method: Callable[..., Any], extra: Json) -> Json:
    """Those of the keyword arguments that a method takes; NNI handed out fewer in its first versions."""
    parameters = inspect.signature(method).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return extra
    names = {parameter.name for parameter in parameters}
    return {name: value for name, value in extra.items() if name in names}


def _short(value: Any) -> str:
    text = json.dumps(value, default=repr)
    return text if len(text) <= 300 else text[:299] + "…"


def _seed() -> None:
    """Make a class that draws from the usual generators draw the same again after a crash."""
    random.seed(os.environ["NNI_EXP_ID"])
    with contextlib.suppress(ImportError):
        import numpy

        numpy.random.seed(random.getrandbits(32))


def describe(error: BaseException) -> Json:
    """An exception as whoever called reads it, without the frames of the host and of the import system."""
    others = (str(Path(__file__).parent), str(Path(importlib.__file__).parent), "<frozen importlib")
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(others)]
    trace = "".join(traceback.format_list(frames[-MOST_FRAMES:]))
    last = "".join(traceback.format_exception_only(type(error), error)).strip()
    if isinstance(error, ImportError):
        last += f" (in {sys.executable})"
    return {"error": last, "traceback": trace}


def build(folder: Path, connection: socket.socket) -> Host:
    """Make the classes, and repeat the calls of the journal."""
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    for part in reversed(list(plan.values())):
        if isinstance(part, dict):
            add_code(part["folder"], part.get("original", ""))
    _seed()
    if plan.get("threads"):
        from nni.runtime.common import enable_multi_thread

        enable_multi_thread()
    return Host(plan, Journal(folder / "journal"), lambda: show_life(connection))


def serve(folder: Path, token: str) -> None:
    server = Server(folder, token)
    connection = server.next_connection(FIRST_CALL_SECONDS)
    if connection is None:
        return
    _lock = take_lock(folder / "lock", connection)
    try:
        host = build(folder, connection)
    except BaseException as error:  # a class may raise anything, SystemExit too
        logger.exception("the classes could not be made")
        with connection:
            if read_call(connection) is not None:
                reply(connection, {**describe(error), "while": "made"})
        return
    threading.Thread(target=answer_all, args=(server, connection, host), daemon=True).start()
    while (running := host.main.get()) is not None:
        host.make(running)
    if host.is_closed:
        host.hosted.close()


def answer_all(server: Server, connection: socket.socket | None, host: Host) -> None:
    """Answer calls until there are none to come, or the classes shall end; then end the process."""
    while connection is not None and not host.is_closed:
        with connection:
            host.is_closed = not answer_one(connection, host)
        if not host.is_closed:
            connection = server.next_connection(IDLE_SECONDS)
    host.main.put(None)
    time.sleep(END_SECONDS)
    os._exit(0)  # A class that does not come back from its call.


def answer_one(connection: socket.socket, host: Host) -> bool:
    """Answer the call of a connection; tells whether the host goes on."""
    try:
        call = read_call(connection)
    except (OSError, ValueError):
        call = None
    if call is None:
        return True
    if call["call"] == "close":
        return False
    try:
        reply(connection, host.answer(call))
    except BaseException as error:
        logger.exception("the call %s could not be made", _short(call))
        reply(connection, {**describe(error), "while": call["call"]})
    return True


if __name__ == "__main__":
    # Not this script's own folder: what a class imports is nni, beside it its own code, and what is installed.
    sys.path[0] = os.environ["TRIALFLOW_SDK"]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    serve(Path.cwd(), sys.argv[1])
