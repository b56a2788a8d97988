"""Tuners, assessors and advisors of the user's own: the process that hosts them, and experiments with them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from trialflow.errors import ClassBusyError, ConfigError, UserClassError
from trialflow.experiment.loading import load_experiment
from trialflow.experiment.running import ExperimentSteps
from trialflow.experiment.showing.nni_views import show_profile
from trialflow.hosting import ClassHost
from trialflow.processes import end_processes, find_processes
from trialflow.records import AlgorithmSpec, ExperimentStatus, JsonObject, Slot, Trial, TrialStatus, UserClass
from trialflow.settings import Settings
from trialflow.store import ClaimRefusal

from .lab import RUN, again, follow, live_a_trial, make_steps, suggest
from .user_class_lab import SPACE, TRIAL, TUNER, make_experiment, own, tuner_that, write_file

ASSESSOR = """
from nni.assessor import AssessResult, Assessor


class Mine(Assessor):
    def __init__(self, limit):
        self.limit, self.ended = limit, []

    def assess_trial(self, trial_job_id, trial_history):
        assert len(trial_job_id) == 5
        return AssessResult.Bad if trial_history[-1]["default"] > self.limit else AssessResult.Good

    def trial_end(self, trial_job_id, success):
        self.ended.append((trial_job_id, success))
        with open("ended.txt", "a") as file:
            file.write(f"{success}\\n")
"""
# As NNI 1.x and NNI 2.x write theirs.
ADVISOR = """
import json
{imports}
from nni.utils import MetricType, extract_scalar_reward


class Mine(MsgDispatcherBase):
    def __init__(self, per_round=2):
        super().__init__()
        self.per_round, self.count, self.live, self.killed = per_round, 0, 0, None

    def handle_initialize(self, data):
        self.handle_update_search_space(data)
        {send}(CommandType.Initialized, "")

    def handle_update_search_space(self, data):
        self.space = data

    def handle_request_trial_jobs(self, data):
        for _ in range(data):
            if self.live < self.per_round:
                self.suggest()
            else:
                {send}(CommandType.NoMoreTrialJobs, json.dumps({{"parameter_id": "-1"}}))
                self.owed = True

    def suggest(self):
        message = {{
            "parameter_id": f"round_{{self.count // self.per_round}}_{{self.count}}",
            "parameter_source": "algorithm",
            "parameters": {{"x": self.space["x"]["_value"][0] + self.count}},
        }}
        self.count += 1
        self.live += 1
        {send}(CommandType.NewTrialJob, json.dumps(message))

    def handle_report_metric_data(self, data):
        assert data["parameter_id"].startswith("round_")
        value = {value}
        if data["type"] == MetricType.PERIODICAL and extract_scalar_reward(value) >= 1000:
            {send}(CommandType.KillTrialJob, json.dumps(data["trial_job_id"]))

    def handle_trial_end(self, data):
        assert json.loads(data["hyper_params"])["parameters"]
        self.live -= 1
        if getattr(self, "owed", False) and not self.live:
            self.owed = False
            self.suggest()

    def handle_add_customized_trial(self, data):
        pass
"""
STYLES = {
    "1.x": {
        "imports": "from nni.protocol import CommandType, send\nfrom nni.msg_dispatcher_base import MsgDispatcherBase",
        "send": "send",
        "value": 'data["value"]',
    },
    "2.x": {
        "imports": "from nni.runtime.protocol import CommandType, send\n"
        "from nni.runtime.msg_dispatcher_base import MsgDispatcherBase",
        "send": "send",
        "value": 'json.loads(data["value"])',
    },
    "3.0": {
        "imports": "from nni.runtime.tuner_command_channel import CommandType\n"
        "from nni.runtime.msg_dispatcher_base import MsgDispatcherBase",
        "send": "self.send",
        "value": 'json.loads(data["value"])',
    },
}
@pytest.fixture(autouse=True)
def nothing_outlives_a_test_that_fails(tmp_path: Path) -> Iterator[None]:
    yield
    for folder in ("experiments/expaaaaa", "unbroken", "broken"):
        end_processes(f"TRIALFLOW_HOST={tmp_path}/{folder}/algorithm")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[ClassHost]:
    host = ClassHost("expaaaaa", tmp_path, call_seconds=60)
    yield host
    host.close()
    assert find_processes(host.mark) == []


def planned(host: ClassHost, folder: Path, *specs: AlgorithmSpec) -> ClassHost:
    host.plan({spec.user_class.kind: (spec, spec.user_class.code_directory) for spec in specs if spec.user_class})
    return host


def kill(host: ClassHost) -> None:
    for pid in find_processes(host.mark):
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while find_processes(host.mark):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def ask(host: ClassHost, number: int) -> JsonObject:
    return dict(host.call({"call": "ask", "number": number})["parameters"])


def end(host: ClassHost, number: int, **more: Any) -> None:
    call = {"call": "end", "number": number, "trial": f"tri{number:02}", "status": "FAILED", "parameters": None}
    host.call({**call, **more})


def conversation(host: ClassHost, between: Any = lambda: None) -> list[JsonObject]:
    """Some calls whose answers depend on all calls before."""
    host.call({"call": "space", "space": SPACE})
    answers = []
    for number in range(4):
        between()
        answers.append(ask(host, number))
        if number == 1:
            end(host, 0, status="SUCCEEDED", value={"default": 0.5})
            between()
            host.call({"call": "space", "space": {"x": {"_type": "uniform", "_value": [5, 6]}}})
    end(host, 1)
    return [*answers, ask(host, 4)]


def test_a_tuner_keeps_its_state_between_calls(host: ClassHost, tmp_path: Path) -> None:
    answers = conversation(planned(host, tmp_path, own(tmp_path, TUNER)))

    assert [answer["id"] for answer in answers] == [0, 1, 2, 3, 4]
    assert [answer["total"] for answer in answers] == [0.0, 0.0, 100.5, 100.5, 1100.5]
    assert [int(answer["x"]) for answer in answers] == [0, 0, 5, 5, 5]
    assert "a class may print" in host.log_file.read_text()
    assert (tmp_path / "algorithm" / "events.txt").read_text().count("\n") == 3


def test_a_killed_host_is_rebuilt_and_goes_on_as_one_that_never_stopped(tmp_path: Path) -> None:
    spec, found = own(tmp_path, TUNER), []
    for name in ("unbroken", "broken"):
        host = planned(ClassHost("expaaaaa", tmp_path / name, call_seconds=60), tmp_path, spec)
        found.append(conversation(host, between=(lambda host=host: kill(host)) if name == "broken" else lambda: None))
        host.close()

    assert found[0] == found[1]
    assert "calls were repeated" in host.log_file.read_text()


def test_a_call_that_was_made_is_not_made_again(host: ClassHost, tmp_path: Path) -> None:
    planned(host, tmp_path, own(tmp_path, TUNER))
    host.call({"call": "space", "space": SPACE})

    first = ask(host, 0)
    end(host, 0)
    end(host, 0)

    assert ask(host, 0) == first
    assert ask(host, 1)["total"] == 1000


def test_an_answer_that_comes_out_otherwise_after_a_crash_does_not_count(host: ClassHost, tmp_path: Path) -> None:
    code = tuner_that("""
        def generate_parameters(self, parameter_id, **kwargs):
            self.given[parameter_id] = int.from_bytes(os.urandom(4), "big")
            return {"x": self.given[parameter_id]}
        def receive_trial_result(self, parameter_id, parameters, value, **kwargs):
            self.log("got", parameters["x"])
        """)
    planned(host, tmp_path, own(tmp_path, code))
    host.call({"call": "space", "space": SPACE})
    first = ask(host, 0)

    kill(host)

    assert ask(host, 0) == first
    end(host, 0, status="SUCCEEDED", value=1.0)
    assert f"('got', {first['x']})" in (tmp_path / "algorithm" / "events.txt").read_text()
    assert "which counts" in host.log_file.read_text()


def test_a_record_that_was_cut_off_never_counted(host: ClassHost, tmp_path: Path) -> None:
    planned(host, tmp_path, own(tmp_path, TUNER))
    host.call({"call": "space", "space": SPACE})
    ask(host, 0)
    kill(host)
    with (tmp_path / "algorithm" / "journal").open("ab") as file:
        file.write(b'{"call": {"call": "end", "number": 0')

    assert ask(host, 1)["total"] == 0.0
    kill(host)
    assert ask(host, 2)["total"] == 0.0


def test_an_asker_that_was_killed_in_a_call_leaves_an_answer_for_the_next_one(host: ClassHost, tmp_path: Path) -> None:
    code = tuner_that("""
        def generate_parameters(self, parameter_id, **kwargs):
            import time
            time.sleep(2)
            return super().generate_parameters(parameter_id)
        """)
    planned(host, tmp_path, own(tmp_path, code))
    host.call({"call": "space", "space": SPACE})
    connection = host._connect()
    assert connection is not None
    connection.sendall(b'{"call": "ask", "number": 0}\n')
    connection.close()

    assert ask(host, 0)["id"] == 0
    assert len((tmp_path / "algorithm" / "journal").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("def __init__(self): raise RuntimeError('no licence')", "RuntimeError: no licence"),
        ("def generate_parameters(self, parameter_id, **kwargs): return 1 / 0", "ZeroDivisionError"),
        ("def generate_parameters(self, parameter_id, **kwargs): return [1]", "must give a dict; got list"),
        ("def generate_parameters(self, parameter_id, **kwargs): return {'x': object()}", "must be JSON; got object"),
        ("def generate_parameters(self, parameter_id, **kwargs): return {'x': float('nan')}", "not JSON compliant"),
        ("def generate_parameters(self, parameter_id, **kwargs): raise SystemExit(3)", "SystemExit: 3"),
        ("def generate_parameters(self, parameter_id, **kwargs): os._exit(3)", "ended 3 times when it was asked"),
        ("def generate_parameters(self, parameter_id, **kwargs): __import__('time').sleep(60)", "took longer than 5 s"),
    ],
)
def test_a_class_that_fails_is_blamed_with_its_traceback(
    host: ClassHost, tmp_path: Path, body: str, message: str
) -> None:
    planned(host, tmp_path, own(tmp_path, tuner_that(body)))
    if "60" in body:
        host._call_seconds = 5

    def space_and_ask() -> None:
        host.call({"call": "space", "space": SPACE})
        ask(host, 0)

    with pytest.raises(UserClassError) as caught:
        space_and_ask()

    assert message in str(caught.value)
    if "1 / 0" in body:
        assert "my_tuner.py" in str(caught.value)
        assert "in generate_parameters" in str(caught.value)
        assert "host.py" not in str(caught.value)


def test_the_environment_of_the_worker_is_none_of_a_class_s_business(
    host: ClassHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    code = tuner_that("""
        def generate_parameters(self, parameter_id, **kwargs):
            return {"names": sorted(os.environ), "nni": nni.__file__, "values": list(os.environ.values())}
        """)
    planned(host, tmp_path, own(tmp_path, code))
    host.call({"call": "space", "space": SPACE})

    seen = ask(host, 0)

    assert "secret" not in seen["values"]
    assert not [name for name in seen["names"] if "AIRFLOW" in name]
    assert seen["nni"].endswith("sdk/nni/__init__.py")


def test_a_host_that_is_not_in_charge_any_more_retires(host: ClassHost, tmp_path: Path) -> None:
    planned(host, tmp_path, own(tmp_path, TUNER))
    host.call({"call": "space", "space": SPACE})

    (tmp_path / "algorithm" / "owner.json").write_text('{"token": "another", "machine": "elsewhere"}')

    deadline = time.monotonic() + 20
    while find_processes(host.mark):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert ask(host, 0)["id"] == 0  # taken over from elsewhere


def test_a_host_that_was_closed_elsewhere_retires(
    host: ClassHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned(host, tmp_path, own(tmp_path, TUNER))
    host.call({"call": "space", "space": SPACE})
    with monkeypatch.context() as patch:  # As another machine sees it, which cannot see its processes.
        patch.setattr("trialflow.hosting.client.find_processes", lambda mark: [])
        patch.setattr("trialflow.hosting.client.end_processes", lambda mark: [])

        host.close()

    deadline = time.monotonic() + 20
    while find_processes(host.mark):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert ask(host, 0)["id"] == 0  # of an experiment that was resumed


# ── experiments ──────────────────────────────────────────────────────────────────────────────────────────────


def events_of(steps: ExperimentSteps, name: str = "events.txt") -> list[str]:
    return (Path(steps.context.experiment.folder) / "algorithm" / name).read_text().splitlines()


def host_processes(steps: ExperimentSteps) -> list[int]:
    assert steps.context.user_classes is not None
    return find_processes(steps.context.user_classes.host.mark)


def test_an_experiment_with_a_tuner_of_its_own_survives_the_death_of_its_host(tmp_path: Path) -> None:
    steps = make_experiment(tmp_path, tuner=own(tmp_path, TUNER, optimize_mode="maximize"))
    for index in range(6):
        trial = live_a_trial(steps, Slot(1, index), RUN)
        assert isinstance(trial, Trial)
        if index in (1, 3):
            kill(steps.context.user_classes.host)  # type: ignore[union-attr]

    trials = steps.context.store.list_trials(steps.context.id)
    totals = [trial.parameters["total"] for trial in trials if trial.parameters]
    told = [sum(trial.value + 100 for trial in trials[:number] if trial.value) for number in range(6)]
    assert totals == pytest.approx(told)
    assert show_profile(steps.context.experiment, 0, 6, None)["params"]["tuner"] == {
        "codeDir": str(tmp_path / "tuner"), "classFileName": "my_tuner.py", "className": "Mine",
        "classArgs": {"optimize_mode": "maximize"},
    }  # fmt: skip
    assert steps.conclude().best == max(trials, key=lambda trial: trial.value or 0.0)
    assert events_of(steps)[-1] == "('exit',)"
    assert host_processes(steps) == []


def test_an_asker_that_is_killed_at_any_moment_leaves_one_suggestion_per_trial(tmp_path: Path) -> None:
    code = tuner_that("""
        def generate_parameters(self, parameter_id, **kwargs):
            import time
            time.sleep(0.3)
            return super().generate_parameters(parameter_id)
        """)
    steps = make_experiment(tmp_path, tuner=own(tmp_path, code), trial_concurrency=9, max_trial_number=9)
    program = (
        "import sys\nfrom pathlib import Path\nfrom trialflow.experiment.running import ExperimentContext, TrialSteps\n"
        "from trialflow.records import Slot\nfrom trialflow.settings import Settings\n"
        "trials = TrialSteps(ExperimentContext('expaaaaa', Settings(home=Path(sys.argv[1]), batch_size=6)))\n"
        "print('asks', flush=True)\ntrials.suggest(Slot(1, int(sys.argv[2])), 'run-1')\n"
    )
    for index, moment in enumerate([0.0, 0.1, 0.4, 0.8, 1.5]):
        command = [sys.executable, "-c", program, str(tmp_path), str(index)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as asker:
            assert asker.stdout
            asker.stdout.readline()
            time.sleep(moment)
            asker.kill()

    trials = [suggest(steps, index) for index in range(5)]

    assert [(trial.parameters or {})["id"] for trial in trials] == [trial.number for trial in trials]
    assert len(steps.context.store.list_trials(steps.context.id)) == 5
    journal = [json.loads(line) for line in events_of(steps, "journal")]
    asked = [record["call"]["number"] for record in journal if record["call"]["call"] == "ask"]
    assert sorted(asked) == [0, 1, 2, 3, 4]
    for trial in trials:
        steps.trials.end(trial, TrialStatus.USER_CANCELED, "")
    steps.close_run(1, RUN)
    assert host_processes(steps) == []


def test_a_tuner_s_no_more_trial_error_ends_the_experiment_as_exhausted(tmp_path: Path) -> None:
    steps = make_experiment(tmp_path, tuner=own(tmp_path, TUNER, last=1))

    answers = [live_a_trial(steps, Slot(1, index), RUN) for index in range(3)]

    assert answers[2] is ClaimRefusal.TUNER_EXHAUSTED
    assert steps.context.refresh().status is ExperimentStatus.TUNER_NO_MORE_TRIAL
    assert steps.conclude().experiment.status is ExperimentStatus.DONE
    assert host_processes(steps) == []


def test_a_failed_trial_is_only_told_as_ended(tmp_path: Path) -> None:
    code = TRIAL + "\nif parameters['id'] == 0:\n    raise SystemExit(1)\n"
    steps = make_experiment(tmp_path, code, tuner=own(tmp_path, TUNER))

    live_a_trial(steps, Slot(1, 0), RUN)
    live_a_trial(steps, Slot(1, 1), RUN)

    assert [event for event in events_of(steps) if "(0," in event or ", 0," in event] == ["('end', 0, False)"]
    assert [event.split(",")[0] for event in events_of(steps)] == ["('end'", "('result'", "('end'"]
    assert "{'default':" in events_of(steps)[1]
    steps.close_run(1, RUN)
    assert host_processes(steps) == []


@pytest.mark.parametrize(
    "body",
    [
        "def generate_parameters(self, parameter_id, **kwargs): return {'x': 1.0} if not parameter_id else 1 / 0",
        "def trial_end(self, parameter_id, success): 1 / 0",
        "def receive_trial_result(self, parameter_id, parameters, value): 1 / 0",
    ],
)
def test_a_tuner_that_raises_ends_the_experiment_and_its_running_trials(tmp_path: Path, body: str) -> None:
    slow = "import nni, time\nif nni.get_sequence_id() == 0:\n    time.sleep(600)\nnni.report_final_result(1)\n"
    steps = make_experiment(tmp_path, slow, tuner=own(tmp_path, tuner_that(body)), trial_concurrency=2)
    running = steps.trials.suggest(Slot(1, 0), RUN)
    assert isinstance(running, Trial)

    live_a_trial(steps, Slot(1, 1), RUN)

    experiment = steps.context.refresh()
    assert experiment.status is ExperimentStatus.ERROR
    assert "ZeroDivisionError" in experiment.status_reason
    assert "my_tuner.py" in experiment.status_reason
    assert {trial.status for trial in steps.context.store.list_trials(steps.context.id)} <= {
        TrialStatus.SYS_CANCELED, TrialStatus.SUCCEEDED,
    }  # fmt: skip
    assert steps.context.store.count_live(steps.context.id) == 0
    assert steps.trials.suggest(Slot(1, 2), RUN) is ClaimRefusal.NOT_RUNNING
    assert host_processes(steps) == []
    assert find_processes(f"NNI_SYS_DIR={steps.context.job_request(running).folder}") == []


def test_an_assessor_of_the_user_s_own_stops_a_trial_whoever_follows_it(tmp_path: Path) -> None:
    slow = TRIAL.replace("nni.report_final", "__import__('time').sleep(600)\nnni.report_final")
    assessor = own(tmp_path, ASSESSOR, "assessor", limit=1.5)
    steps = make_experiment(tmp_path, slow, tuner=own(tmp_path, TUNER), assessor=assessor)
    trial = steps.trials.suggest(Slot(1, 0), RUN)
    assert isinstance(trial, Trial)

    ended = steps.trials.report(follow(again(steps), trial))

    assert ended.status is TrialStatus.EARLY_STOPPED
    assert ended.reason.startswith("Mine stopped it at step ")
    assert events_of(steps, "ended.txt") == ["False"]
    steps.close_run(1, RUN)
    assert host_processes(steps) == []


def test_an_assessor_that_raises_ends_the_experiment(tmp_path: Path) -> None:
    assessor = own(tmp_path, ASSESSOR.replace('["default"]', '["nothing"]'), "assessor", limit=1.5)
    steps = make_experiment(tmp_path, assessor=assessor)

    live_a_trial(steps, Slot(1, 0), RUN)

    assert steps.context.refresh().status is ExperimentStatus.ERROR
    assert "KeyError: 'nothing'" in steps.context.experiment.status_reason
    assert host_processes(steps) == []


@pytest.mark.parametrize("style", STYLES)
def test_an_advisor_suggests_waits_and_kills(tmp_path: Path, style: str) -> None:
    go = tmp_path / "go"
    wait = f"while parameters['x'] == 2 or not os.path.exists({str(go)!r}):\n    time.sleep(0.01)\n"
    code = "import os, time" + TRIAL.replace("nni.report_final", f"{wait}nni.report_final")
    code = code.replace('parameters["x"] + step', '1000 if parameters["x"] == 2 else 0')
    advisor = own(tmp_path, ADVISOR.format(**STYLES[style]), "advisor")
    steps = make_experiment(tmp_path, code, tuner=advisor, trial_concurrency=3, max_trial_number=4)
    first, second = (steps.trials.suggest(Slot(1, index), RUN) for index in range(2))
    assert isinstance(first, Trial)
    assert isinstance(second, Trial)
    kill(steps.context.user_classes.host)  # type: ignore[union-attr]

    refused = steps.trials._suggest(Slot(1, 2), RUN)
    go.touch()
    ended = [steps.trials.report(follow(steps, trial)) for trial in (first, second)]
    third = live_a_trial(steps, Slot(1, 2), RUN)

    assert refused is ClaimRefusal.NO_SUGGESTION  # one round at a time
    assert [trial.parameters for trial in ended] == [{"x": 0}, {"x": 1}]
    assert [trial.status for trial in ended] == [TrialStatus.SUCCEEDED] * 2
    assert isinstance(third, Trial)
    assert (third.parameters, third.status) == ({"x": 2}, TrialStatus.EARLY_STOPPED)
    steps.close_run(1, RUN)
    assert host_processes(steps) == []


def test_a_changed_search_space_reaches_the_tuner(tmp_path: Path) -> None:
    from trialflow.experiment.operating.actions import Actions
    from trialflow.store import Adjustable

    steps = make_experiment(tmp_path, tuner=own(tmp_path, TUNER))
    live_a_trial(steps, Slot(1, 0), RUN)
    Actions(steps.context.id, "somebody", steps.context.settings).change(
        Adjustable.SEARCH_SPACE, {"x": {"_type": "uniform", "_value": [7, 8]}}
    )

    trial = live_a_trial(steps, Slot(1, 1), RUN)

    assert isinstance(trial, Trial)
    assert 7 <= (trial.parameters or {})["x"] <= 8
    steps.close_run(1, RUN)


def test_what_a_person_gives_is_told_to_the_tuner(tmp_path: Path) -> None:
    from trialflow.experiment.operating.actions import Actions

    code = tuner_that("""
        def import_data(self, data):
            self.log("import", data)
        def receive_customized_trial_result(self, parameter_id, parameters, value):
            self.log("customized", parameters, value["default"])
        """)
    steps = make_experiment(tmp_path, tuner=own(tmp_path, code))
    actions = Actions(steps.context.id, "somebody", steps.context.settings)
    actions.import_data([{"parameter": {"x": 0.25}, "value": 1.5}])
    live_a_trial(steps, Slot(1, 0), RUN)
    actions.import_data([{"parameter": {"x": 0.5}, "value": 2.5}])
    actions.add({"x": 0.75})
    kill(steps.context.user_classes.host)  # type: ignore[union-attr]
    customized = live_a_trial(steps, Slot(1, 1), RUN)
    suggested = live_a_trial(steps, Slot(1, 2), RUN)

    assert isinstance(customized, Trial)
    assert customized.parameters == {"x": 0.75}
    assert isinstance(suggested, Trial)
    assert (suggested.parameters or {})["id"] == 2
    events = events_of(steps)
    assert events[0] == "('import', [{'parameter': {'x': 0.25}, 'value': 1.5}])"
    assert events.count("('import', [{'parameter': {'x': 0.5}, 'value': 2.5}])") == 1
    assert events.count("('customized', {'x': 0.75}, 0.75)") == 1
    steps.close_run(1, RUN)


def test_a_stopped_experiment_leaves_no_host(tmp_path: Path) -> None:
    from trialflow.experiment.operating.actions import Actions

    steps = make_experiment(tmp_path, tuner=own(tmp_path, TUNER))
    live_a_trial(steps, Slot(1, 0), RUN)
    assert host_processes(steps)

    Actions(steps.context.id, "somebody", steps.context.settings).stop()
    steps.trials.report_ended()
    steps.close_run(1, RUN)

    assert host_processes(steps) == []


# ── experiment files ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("v2", [False, True])
@pytest.mark.parametrize("section", ["tuner", "assessor", "advisor"])
def test_a_class_of_the_user_s_own_is_read_from_either_format(tmp_path: Path, section: str, v2: bool) -> None:
    file = write_file(tmp_path, section, v2, includeIntermediateResults=True)

    spec = load_experiment(str(file), Settings(home=tmp_path / "home"), preflight=False)

    named = spec.user_classes[section]
    folder = str(tmp_path / "own")
    assert named == AlgorithmSpec("Mine", {"last": 3}, True, UserClass(section, folder, "/", "my_tuner", "Mine"))
    assert list(spec.user_classes) == [section]


@pytest.mark.parametrize(
    ("v2", "algorithm", "code", "field", "rule"),
    [
        (False, {"className": None}, TUNER, "tuner.className", "is required for a class of your own"),
        (False, {"codeDir": None}, TUNER, "tuner.codeDir", "is required for a class of your own"),
        (True, {"codeDirectory": None}, TUNER, "tuner.codeDirectory", "is required for a class of your own"),
        (True, {"className": "Mine"}, TUNER, "tuner.className", "must name a module and a class in it"),
        (False, {"codeDir": "nowhere"}, TUNER, "tuner.codeDir", "no such folder"),
        (False, {"codeDir": "~/airflow"}, TUNER, "tuner.codeDir", "must lie inside an allowed folder"),
        (False, {"classFileName": "other.py"}, TUNER, "tuner.classFileName", "there is no such file in the folder"),
        (True, {"className": "other.Mine"}, TUNER, "tuner.className", "there is no such file in the folder"),
        (False, {"classFileName": "../../x.py"}, TUNER, "tuner.classFileName", "must be the name of a Python file"),
        (False, {"className": "Yours"}, TUNER, "tuner.className", "there is no such class in the file"),
        (True, {"className": "my_tuner.Yours"}, TUNER, "tuner.className", "there is no such class in the file"),
        (False, {"builtinTunerName": "TPE"}, TUNER, "tuner.builtinTunerName", "exclude each other"),
        (False, {}, "class Mine(:\n", "tuner", "is no Python that can be read"),
        (False, {}, "import nni.hyperopt_tuner.hyperopt_tuner\n" + TUNER, "tuner", "a part of NNI that Trialflow"),
        (False, {}, "from nni.utils import OptimizeMode, no_such\n" + TUNER, "tuner", "a part of NNI that Trialflow"),
        (False, {}, "from nni.protocol import receive\n" + TUNER, "tuner", "a part of NNI that Trialflow"),
        (False, {"no_such_key": 1}, TUNER, "tuner.no_such_key", ""),
    ],
)
def test_what_is_wrong_with_a_class_is_found_without_importing_it(
    tmp_path: Path, v2: bool, algorithm: JsonObject, code: str, field: str, rule: str
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "my_tuner.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')\n{code}")
    file = write_file(tmp_path, "tuner", v2, **algorithm)

    with pytest.raises(ConfigError) as caught:
        load_experiment(str(file), Settings(home=tmp_path / "home"), preflight=False)

    problems = {problem.field: problem.rule for problem in caught.value.problems}
    assert rule in problems[field], json.dumps(problems)
    assert not (tmp_path / "imported").exists()


def test_an_import_that_the_class_itself_expects_to_fail_is_none_of_ours(tmp_path: Path) -> None:
    code = "try:\n    from nni.tools import no_such\nexcept ImportError:\n    no_such = None\n"
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "my_tuner.py").write_text(code + TUNER)
    file = write_file(tmp_path, "tuner", v2=False)

    spec = load_experiment(str(file), Settings(home=tmp_path / "home"), preflight=False)

    assert spec.warnings == ()  # The same folder is the trials' code.


def test_trial_code_that_needs_more_of_nni_than_there_is_is_warned_of(tmp_path: Path) -> None:
    file = write_file(tmp_path, "tuner", v2=False)
    (tmp_path / "net.py").write_text(
        "import nni as n, nni.trial\nfrom nni import utils\nn.training_update()\n\nn.nas.nn.Linear()\n"
        "n.utils.merge_parameter({}, {})\nutils.nothing_of_ours\nfrom nni.utils import merge_parameter, trace\n"
        "n.get_next_parameter().get\n"
    )
    (tmp_path / "old.py").write_text("print 'nni'\n")
    # The script that starts the experiment may lie beside it.
    (tmp_path / "main.py").write_text("from nni.experiment import Experiment\nExperiment('local').run(8080)\n")

    warnings = load_experiment(str(file), Settings(home=tmp_path / "home"), preflight=False).warnings

    found = [warning.partition(", a part of NNI that Trialflow's module nni does not have")[0] for warning in warnings]
    assert found == ["net.py:3 uses nni.training_update", "net.py:5 uses nni.nas", "net.py:8 uses nni.utils.trace"]


def test_a_class_behind_a_link_or_left_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.py"
    elsewhere.write_text("class Secret: pass\n")
    file = write_file(tmp_path / "experiment", "tuner", v2=False)
    place = tmp_path / "experiment" / "own"

    def problems() -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load_experiment(str(file), settings, preflight=False)
        return [str(problem) for problem in caught.value.problems]

    settings = Settings(home=tmp_path / "home", allowed_roots=(tmp_path / "experiment",))
    (place / ".nniignore").write_text("my_tuner.py\n")
    assert "tuner.classFileName: there is no such file in the folder" in problems()[0]
    (place / ".nniignore").unlink()
    (place / "my_tuner.py").unlink()
    (place / "my_tuner.py").symlink_to(elsewhere)
    assert all("link" in problem and "Secret" not in problem for problem in problems())


# ── classes that take their time ─────────────────────────────────────────────────────────────────────────────

# Its second set of parameters depends on the result of the first trial, for which it waits.
WAITING_TUNER = tuner_that("""
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.told = __import__("threading").Event()

    def generate_parameters(self, parameter_id, **kwargs):
        if parameter_id == 1:
            self.told.wait()
        return super().generate_parameters(parameter_id, **kwargs)

    def receive_trial_result(self, parameter_id, parameters, value, **kwargs):
        super().receive_trial_result(parameter_id, parameters, value, **kwargs)
        self.told.set()
    """)
SLEEPER = tuner_that("""
    def generate_parameters(self, parameter_id, **kwargs):
        __import__("time").sleep(0 if parameter_id == 0 else 3600)
        return super().generate_parameters(parameter_id, **kwargs)
    """)


def test_a_tuner_that_is_asked_in_threads_may_wait_for_what_it_is_told(tmp_path: Path) -> None:
    spec, found = own(tmp_path, WAITING_TUNER), []
    for name in ("unbroken", "broken"):
        host = ClassHost("expaaaaa", tmp_path / name, call_seconds=60)
        host.plan({"tuner": (spec, spec.user_class.code_directory)}, threads=True)  # type: ignore[union-attr]
        host.call({"call": "space", "space": SPACE})
        ask(host, 0)
        with pytest.raises(ClassBusyError):
            host.try_call({"call": "ask", "number": 1})
        if name == "broken":
            kill(host)
            with pytest.raises(ClassBusyError):
                host.try_call({"call": "ask", "number": 1})
        assert ask(host, 2)["id"] == 2  # beside the one that waits
        end(host, 0, status="SUCCEEDED", value=0.5)
        found.append([ask(host, number) for number in (0, 1, 2)])
        if name == "broken":
            kill(host)
            assert [ask(host, number) for number in (0, 1, 2)] == found[-1]
        host.close()

    for answers in found:
        assert [answer["total"] for answer in answers] == [0.0, 100.5, 0.0]
        assert [answer["id"] for answer in answers] == [0, 1, 2]


def test_a_class_that_makes_a_call_is_busy_for_the_next_one_and_keeps_nobody_waiting(
    host: ClassHost, tmp_path: Path
) -> None:
    planned(host, tmp_path, own(tmp_path, SLEEPER))
    host.call({"call": "space", "space": SPACE})
    ask(host, 0)
    begun = time.monotonic()

    for call in ({"call": "ask", "number": 1}, {"call": "ask", "number": 1}, {"call": "end", "number": 0}):
        with pytest.raises(ClassBusyError) as raised:
            host.try_call(call)
        assert raised.value.doing == "ask"
    assert host.try_call({"call": "known"})["asked"] == [0]
    host.close()

    assert time.monotonic() - begun < 20
    assert find_processes(host.mark) == []


def test_a_class_that_dies_each_time_it_is_asked_again_is_given_up(host: ClassHost, tmp_path: Path) -> None:
    code = tuner_that("""
        def generate_parameters(self, parameter_id, **kwargs):
            __import__("time").sleep(1.5)
            os._exit(3)
        """)
    planned(host, tmp_path, own(tmp_path, code))
    host.call({"call": "space", "space": SPACE})

    with pytest.raises(UserClassError, match="ended 3 times when it was asked"):
        ask(host, 0)


def test_an_experiment_whose_tuner_waits_for_another_trial_goes_on(tmp_path: Path) -> None:
    spec = own(tmp_path, WAITING_TUNER)
    code = TRIAL + f"\nimport os, time\nwhile not os.path.exists({str(tmp_path / 'go')!r}): time.sleep(0.1)\n"
    changes: JsonObject = {"multi_thread": True, "trial_concurrency": 2, "max_trial_number": 2}
    steps = make_experiment(tmp_path, code, tuner=spec, **changes)
    first = suggest(steps, 0)
    with ThreadPoolExecutor() as pool:
        second = pool.submit(again(steps).trials.suggest, Slot(1, 1), RUN)
        time.sleep(7)
        assert not second.done()
        steps.trials.hand_over(first)
        assert steps.trials.find_refusal() is not ClaimRefusal.GIVE_WAY
        (tmp_path / "go").touch()
        steps.trials.report(follow(steps, first))
        trial = second.result(timeout=60)

    assert isinstance(trial, Trial)
    assert trial.number == 1
    assert (trial.parameters or {})["total"] > 0
    steps.trials.report(follow(steps, trial))
    steps.conclude()
    assert steps.context.refresh().status is ExperimentStatus.DONE
    assert host_processes(steps) == []


def test_an_experiment_is_stopped_whatever_its_tuner_does(tmp_path: Path) -> None:
    from trialflow.experiment.operating.actions import Actions

    steps = make_experiment(tmp_path, tuner=own(tmp_path, SLEEPER), trial_concurrency=2)
    suggest(steps, 0)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(again(steps).trials.suggest, Slot(1, 1), RUN)
        time.sleep(3)
        begun = time.monotonic()
        Actions(steps.context.id, "somebody", steps.context.settings).stop()
        steps.trials.report_ended()
        steps.close_run(1, RUN)
        answer = waiting.result(timeout=30)

    assert answer is ClaimRefusal.NOT_RUNNING or (isinstance(answer, Trial) and answer.ended_at is not None)
    assert time.monotonic() - begun < 25
    assert steps.context.store.count_live(steps.context.id) == 0
    assert host_processes(steps) == []


@pytest.mark.parametrize("multi_thread", [False, True])
def test_the_duration_is_kept_whatever_a_tuner_does(tmp_path: Path, multi_thread: bool) -> None:
    steps = make_experiment(
        tmp_path, tuner=own(tmp_path, SLEEPER), trial_concurrency=2, max_duration_seconds=8, multi_thread=multi_thread
    )
    first = suggest(steps, 0)

    answer = again(steps).trials.suggest(Slot(1, 1), RUN)

    assert answer is ClaimRefusal.DURATION_OVER
    steps.trials.report(follow(steps, first))
    begun = time.monotonic()
    steps.conclude()
    assert steps.context.refresh().status is ExperimentStatus.DONE
    assert time.monotonic() - begun < 25
    assert [trial.number for trial in steps.context.store.list_trials(steps.context.id)] == [0]
    assert host_processes(steps) == []


def test_a_tuner_that_waits_for_nothing_that_goes_on_is_given_up(tmp_path: Path) -> None:
    steps = make_experiment(tmp_path, tuner=own(tmp_path, SLEEPER), multi_thread=True)
    live_a_trial(steps, Slot(1, 0), RUN)
    assert steps.context.user_classes is not None
    steps.context.user_classes.host._call_seconds = 3

    assert steps.trials.suggest(Slot(1, 1), RUN) is ClaimRefusal.NOT_RUNNING

    experiment = steps.context.refresh()
    assert experiment.status is ExperimentStatus.ERROR
    assert "took longer than 3 s when it was asked for parameters" in experiment.status_reason


def test_a_metric_that_comes_while_the_assessor_is_busy_is_judged_later(tmp_path: Path) -> None:
    code = ASSESSOR.replace("        assert len", "        __import__('time').sleep(2.5)\n        assert len")
    trial = TRIAL + "\n__import__('time').sleep(60)\n"
    steps = make_experiment(tmp_path, trial, assessor=own(tmp_path, code, "assessor", limit=2))

    ended = follow(steps, suggest(steps, 0))

    assert (ended.status, ended.reason) == (TrialStatus.EARLY_STOPPED, "Mine stopped it at step 3")
    steps.trials.report(ended)
    steps.conclude()


BESIDE = """
import os
from nni.tuner import Tuner
from parts.helper import FILE

here = os.path.dirname(__file__)
seen = open(os.path.join(here, "..", "data.txt")).read()
written = open(os.path.join(here, "results.txt"), "a")

class Mine(Tuner):
    def update_search_space(self, search_space):
        written.write("told ")
        written.flush()

    def generate_parameters(self, parameter_id, **kwargs):
        return {"seen": seen, "file": __file__, "helper": FILE}
"""


def write_beside(folder: Path, code: str) -> AlgorithmSpec:
    spec = own(folder, code)
    (folder / "data.txt").write_text("data")
    (folder / "tuner" / "parts").mkdir()
    (folder / "tuner" / "parts" / "__init__.py").touch()
    (folder / "tuner" / "parts" / "helper.py").write_text("FILE = __file__\n")
    return spec


def test_a_tuner_reads_and_writes_beside_its_own_code_and_is_what_was_staged(tmp_path: Path) -> None:
    spec = write_beside(tmp_path / "project", BESIDE)
    steps = make_steps(tmp_path, tuner=spec, search_space=SPACE)
    (tmp_path / "project" / "tuner" / "my_tuner.py").write_text("a change that is none of this experiment's")
    parameters = suggest(steps).parameters
    folder = tmp_path / "project" / "tuner"
    assert parameters == {
        "seen": "data", "file": str(folder / "my_tuner.py"), "helper": str(folder / "parts" / "helper.py"),
    }  # fmt: skip
    assert (folder / "results.txt").read_text() == "told "


def test_a_tuner_whose_folder_is_gone_runs_in_its_copy(tmp_path: Path) -> None:
    steps = make_steps(tmp_path, tuner=own(tmp_path / "project", TUNER), search_space=SPACE)
    shutil.rmtree(tmp_path / "project")
    assert suggest(steps).parameters["id"] == 0


PYTHON = """
import sys
from nni.tuner import Tuner

class Mine(Tuner):
    def generate_parameters(self, parameter_id, **kwargs):
        return {"prefix": sys.prefix}

    def update_search_space(self, search_space):
        pass
"""


@pytest.mark.parametrize("named", ["active", "in the file", "by the installation", "", "on the path alone"])
def test_a_tuner_has_the_python_of_the_environment_that_is_named_or_active(tmp_path: Path, named: str) -> None:
    environment = tmp_path / "environment"
    venv.create(environment, symlinks=True)
    sent = {"PATH": f"{environment}/bin:/usr/bin:/bin", "VIRTUAL_ENV": str(environment)}
    on_path = {"environment": {"PATH": sent["PATH"]}}
    training = {
        "active": {"environment": sent}, "in the file": {"pythonPath": str(environment)}, "on the path alone": on_path,
    }.get(named, {})  # fmt: skip
    setting = {"trial_python_path": str(environment)} if named == "by the installation" else {}
    settings = Settings(home=tmp_path, batch_size=4, **setting)
    spec = own(tmp_path / "project", PYTHON)
    steps = make_steps(tmp_path, tuner=spec, search_space=SPACE, settings=settings,
                       training={"command": "true", **training})  # fmt: skip
    is_worker_s = named in ("", "on the path alone")
    assert suggest(steps).parameters == {"prefix": sys.prefix if is_worker_s else str(environment)}


def test_a_module_that_a_tuner_lacks_is_told_with_the_python_that_lacks_it(tmp_path: Path) -> None:
    steps = make_steps(tmp_path, tuner=own(tmp_path / "project", "import no_such_module"), search_space=SPACE)
    steps.trials.suggest(Slot(1, 0), "run")
    experiment = steps.context.refresh()
    assert experiment.status is ExperimentStatus.ERROR
    assert f"No module named 'no_such_module' (in {sys.executable})" in experiment.status_reason
    assert "importlib" not in experiment.status_reason


@pytest.mark.parametrize("v2", [False, True])
def test_an_installation_may_run_no_classes_of_users_and_some_platforms_alone(tmp_path: Path, v2: bool) -> None:
    file = str(write_file(tmp_path / "project", "tuner", v2))
    assert load_experiment(file, Settings(home=tmp_path / "home", platforms="local, kubeflow"), preflight=False)
    with pytest.raises(ConfigError, match=r"tuner\.className: is a class of your own, and this installation runs none"):
        load_experiment(file, Settings(home=tmp_path / "home", user_classes=False))
    key = "trainingService.platform" if v2 else "trainingServicePlatform"
    with pytest.raises(ConfigError, match=rf"{key}: is a platform on which this installation runs no .*: kubeflow"):
        load_experiment(file, Settings(home=tmp_path / "home", platforms="kubeflow"))
