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

The journal is written after a call has come to its end and before it is answered. So a host that is killed at any
point leaves the list of calls that count, and the next one repeats exactly these. A call that is in the journal is not
made again: whoever asks twice gets the same answer.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import inspect
import json
import logging
import os
import random
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable

    Json = dict[str, Any]

TICK_SECONDS = 1.0
# A host that nobody has called for so long ends; the next call builds another one.
IDLE_SECONDS = 24 * 3600.0
FIRST_CALL_SECONDS = 60.0
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
    if call["call"] == "assess":
        return ("assess", call["trial"], call["attempt"], call["step"])
    return (call["call"], call["key"] if call["call"] == "import" else call["number"])


class Host:
    """The classes and their journal."""

    def __init__(self, plan: Json, journal: Journal, show_life: Callable[[], None]) -> None:
        self.journal = journal
        self.hosted = Advisor(plan) if plan.get("advisor") else TunerAndAssessor(plan)
        for record in journal.records:
            self._repeat(record["call"], record["answer"])
            show_life()
        if journal.records:
            logger.info("%d calls were repeated", len(journal.records))

    def _repeat(self, call: Json, answer: Json) -> None:
        again = self._make_call(call)
        if again != answer:
            logger.warning("the classes answer %s with %s now, and answered %s before, which counts: is a random "
                           "generator without a seed?", _short(call), _short(again), _short(answer))  # fmt: skip
        self.hosted.adopt(call, answer)

    def answer(self, call: Json) -> Json:
        """Make a call, unless it was made before."""
        if call["call"] == "known":
            journal = self.journal
            return {"ended": journal.ended(), "asked": journal.asked(), "imported": journal.imported()}
        known = self.journal.find(call)
        if known is not None:
            return known
        answer = self._make_call(call)
        self.journal.add(call, answer)
        self.hosted.adopt(call, answer)
        return answer

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


def describe(error: BaseException) -> Json:
    """An exception as whoever called reads it, without the frames of this file."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    trace = "".join(traceback.format_list(frames[-MOST_FRAMES:]))
    last = "".join(traceback.format_exception_only(type(error), error)).strip()
    return {"error": last, "traceback": trace}


def build(folder: Path, connection: socket.socket) -> Host:
    """Make the classes, and repeat the calls of the journal."""
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    sys.path[1:1] = [part["folder"] for part in plan.values()]
    _seed()
    return Host(plan, Journal(folder / "journal"), lambda: show_life(connection))


def serve(folder: Path, token: str) -> None:
    server = Server(folder, token)
    connection = server.next_connection(FIRST_CALL_SECONDS)
    if connection is None:
        return
    _lock = take_lock(folder / "lock", connection)
    host = failure = None
    try:
        host = build(folder, connection)
    except BaseException as error:  # a class may raise anything, SystemExit too
        logger.exception("the classes could not be made")
        failure = {**describe(error), "while": "made"}
    while connection is not None:
        with connection:
            if not answer_one(connection, host, failure):
                return
        connection = server.next_connection(IDLE_SECONDS)


def answer_one(connection: socket.socket, host: Host | None, failure: Json | None) -> bool:
    """Answer the call of a connection; tells whether the host goes on."""
    try:
        call = read_call(connection)
    except (OSError, ValueError):
        call = None
    if call is None:
        return True
    if host is None:
        reply(connection, failure or {})
        return False
    try:
        if call["call"] == "close":
            host.hosted.close()
            reply(connection, {})
            return False
        reply(connection, host.answer(call))
    except BaseException as error:
        logger.exception("a class failed in the call %s", _short(call))
        reply(connection, {**describe(error), "while": call["call"]})
    return True


if __name__ == "__main__":
    # Not this script's own folder: what a class imports is nni, beside it its own code, and what is installed.
    sys.path[0] = os.environ["TRIALFLOW_SDK"]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    serve(Path.cwd(), sys.argv[1])
