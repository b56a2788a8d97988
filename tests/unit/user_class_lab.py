"""Experiments of which the tuner, the assessor or the advisor is a class of the user's own."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import yaml

from trialflow.experiment.running import ExperimentSteps
from trialflow.records import AlgorithmSpec, JsonObject, UserClass
from trialflow.settings import Settings

from .lab import make_steps

SPACE = {"x": {"_type": "uniform", "_value": [0, 1]}}
TUNER = '''
import os
import random

import nni
from nni.tuner import Tuner
from nni.utils import OptimizeMode, extract_scalar_reward

events = open("events.txt", "a")  # as NNI's examples do: at import, where the class runs
print("a class may print")


class Mine(Tuner):
    def __init__(self, optimize_mode="maximize", last=99):
        self.mode, self.last, self.total = OptimizeMode(optimize_mode), last, 0.0
        self.space, self.given = None, {}

    def update_search_space(self, search_space):
        self.space = search_space

    def generate_parameters(self, parameter_id, **kwargs):
        if parameter_id > self.last:
            raise nni.NoMoreTrialError("that was all")
        low, high = self.space["x"]["_value"]
        self.given[parameter_id] = low + (high - low) * random.random()
        # What it was told so far is part of what it answers.
        return {"x": self.given[parameter_id], "total": self.total, "pid": os.getpid() * 0, "id": parameter_id}

    def receive_trial_result(self, parameter_id, parameters, value, **kwargs):
        assert parameters["x"] == self.given[parameter_id]
        self.total += extract_scalar_reward(value)
        self.log("result", parameter_id, value)

    def trial_end(self, parameter_id, success, **kwargs):
        self.total += 100 if success else 1000
        self.log("end", parameter_id, success)

    def log(self, *words):
        events.write(repr(words) + "\\n")
        events.flush()

    def _on_exit(self):
        self.log("exit")
'''


TRIAL = """
import nni
parameters = nni.get_next_parameter()
for step in range(3):
    nni.report_intermediate_result({"default": parameters["x"] + step})
nni.report_final_result({"default": parameters["x"], "other": 1})
"""


def own(folder: Path, code: str, kind: str = "tuner", **class_args: Any) -> AlgorithmSpec:
    """A class of this code."""
    place = folder / kind
    place.mkdir(parents=True, exist_ok=True)
    (place / f"my_{kind}.py").write_text(textwrap.dedent(code))
    return AlgorithmSpec("Mine", class_args, user_class=UserClass(kind, str(place), str(folder), f"my_{kind}", "Mine"))


def tuner_that(body: str) -> str:
    """The code of a tuner with some methods in the place of those above."""
    return TUNER + "\n\nclass Mine(Mine):\n" + textwrap.indent(textwrap.dedent(body), "    ")


def make_experiment(home: Path, code: str = TRIAL, batch_size: int = 6, **changes: Any) -> ExperimentSteps:
    """An experiment with classes of its own that lets trials be claimed."""
    defaults = {"search_space": SPACE, "max_trial_number": 6, "trial_concurrency": 1, "tuner": AlgorithmSpec("Random")}
    settings = Settings(home=home, batch_size=batch_size, class_call_seconds=60)
    return make_steps(home, code, settings=settings, **{**defaults, **changes})


def write_file(folder: Path, section: str, v2: bool, **algorithm: Any) -> Path:
    """An experiment file with a class of its own in ``folder/own/my_tuner.py``."""
    (folder / "own").mkdir(parents=True, exist_ok=True)
    (folder / "trial.py").write_text(TRIAL)
    if not (folder / "own" / "my_tuner.py").exists():
        (folder / "own" / "my_tuner.py").write_text(TUNER)
    v1_class = {"codeDir": "own", "classFileName": "my_tuner.py", "className": "Mine", "classArgs": {"last": 3}}
    v2_class = {"codeDirectory": "own", "className": "my_tuner.Mine", "classArgs": {"last": 3}}
    given = {**(v2_class if v2 else v1_class), **algorithm}
    given = {key: value for key, value in given.items() if value is not None}
    if v2:
        data: JsonObject = {
            "experimentName": "own", "trialConcurrency": 1, "maxTrialNumber": 2, "searchSpace": SPACE,
            "trialCommand": "python3 trial.py", "trialCodeDirectory": ".", "trainingService": {"platform": "local"},
        }  # fmt: skip
    else:
        data = {
            "authorName": "a", "experimentName": "own", "trialConcurrency": 1, "maxTrialNum": 2,
            "trainingServicePlatform": "local", "searchSpace": SPACE, "useAnnotation": False,
            "trial": {"command": "python3 trial.py", "codeDir": ".", "gpuNum": 0},
        }  # fmt: skip
    if section == "assessor":
        data["tuner"] = {"name": "TPE"} if v2 else {"builtinTunerName": "TPE"}
    (folder / "config.yml").write_text(yaml.safe_dump({**data, section: given}))
    return folder / "config.yml"
