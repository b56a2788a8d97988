"""NNI's side of `quality.py`, run by the Python of NNI's environment.

    nni_tuners.py '{"tuner": "TPE", "args": {}, "problems": ["Branin"], "trials": 60, "seeds": 9, "kept": "file"}'

Prints the least regret that one tuner came to, as JSON: problem → one number per seed.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from contextlib import suppress
from importlib import import_module
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import quick_sklearn
from problems import PROBLEMS

Request = tuple[str, dict[str, Any], int, str, int]  # tuner, its class arguments, trials, problem, seed

_SILENCE_SECONDS = 10.0
# name → (module, class, what it is given besides its class arguments)
_CLASSES = {
    "TPE": ("tpe_tuner", "TpeTuner", {"optimize_mode": "minimize", "seed": None}),
    "Random": ("random_tuner", "RandomTuner", {"seed": None}),
    "Anneal": ("hyperopt_tuner", "HyperoptTuner", {"optimize_mode": "minimize", "algorithm_name": "anneal"}),
    "Evolution": ("evolution_tuner", "EvolutionTuner", {"optimize_mode": "minimize"}),
    "GPTuner": ("gp_tuner.gp_tuner", "GPTuner", {"optimize_mode": "minimize"}),
    "MetisTuner": ("metis_tuner.metis_tuner", "MetisTuner", {"optimize_mode": "minimize"}),
}


def make_tuner(name: str, args: dict[str, Any], seed: int) -> Any:
    """NNI's tuner of this name, set to minimise."""
    module, attribute, own = _CLASSES[name]
    given = {key: seed if key == "seed" else value for key, value in own.items()}
    return getattr(import_module(f"nni.algorithms.hpo.{module}"), attribute)(**given, **args)


def least_regret(name: str, args: dict[str, Any], problem_name: str, trials: int, seed: int) -> float:
    """The least regret of so many trials, one after the other."""
    import numpy as np

    random.seed(seed)
    np.random.seed(seed)
    problem, tuner = PROBLEMS[problem_name], make_tuner(name, args, seed)
    tuner.update_search_space(problem.space)
    regrets = []
    for number in range(trials):
        parameters = tuner.generate_parameters(number)
        regrets.append(problem.regret(parameters))
        tuner.receive_trial_result(number, parameters, regrets[-1])
        tuner.trial_end(number, True)
    return min(regrets)


def let_gp_tuner_run() -> None:
    """Give scipy's result the form that NNI's GPTuner indexes; it has been a plain number for years."""
    import numpy as np
    from nni.algorithms.hpo.gp_tuner import util

    minimize = util.minimize

    def with_array(*args: Any, **kwargs: Any) -> Any:
        result = minimize(*args, **kwargs)
        result.fun = np.atleast_1d(result.fun)
        return result

    util.minimize = with_array


def prepare() -> None:
    """Make a process of the pool ready; what NNI prints for every suggestion is nobody's concern."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    let_gp_tuner_run()
    quick_sklearn.install()


def measure(request: Request) -> tuple[Request, float]:
    """The least regret, beside what was asked for."""
    name, args, trials, problem, seed = request
    return request, least_regret(name, args, problem, trials, seed)


def read(kept: Path) -> dict[str, float]:
    """Request, as JSON → the least regret, as far as it was measured before."""
    known = {}
    for line in kept.read_text().splitlines() if kept.exists() else ():
        with suppress(ValueError):  # It was being written when the process ended.
            *request, regret = json.loads(line)
            known[json.dumps(request)] = regret
    return known


def main(asked: dict[str, Any]) -> dict[str, list[float]]:
    """What is asked for; every figure is kept as soon as it is known, so that the next process goes on."""
    problems, seeds, kept = asked["problems"], range(asked["seeds"]), Path(asked["kept"])
    requests = {
        (problem, seed): (asked["tuner"], asked["args"], asked["trials"], problem, seed)
        for problem in problems
        for seed in seeds
    }
    known = read(kept)
    missing = [request for request in requests.values() if json.dumps(request) not in known]
    if missing:
        told = time.monotonic()
        with kept.open("a") as file, Pool(os.cpu_count(), prepare, maxtasksperchild=1) as pool:
            for number, (request, regret) in enumerate(pool.imap_unordered(measure, missing), 1):
                known[json.dumps(request)] = regret
                file.write(json.dumps([*request, regret]) + "\n")
                file.flush()
                if time.monotonic() - told > _SILENCE_SECONDS:
                    print(f"NNI's {asked['tuner']}: {number} of {len(missing)} runs", file=sys.stderr, flush=True)
                    told = time.monotonic()
    return {problem: [known[json.dumps(requests[problem, seed])] for seed in seeds] for problem in problems}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
