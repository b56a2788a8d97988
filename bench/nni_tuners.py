"""NNI's side of `quality.py`, run by the Python of NNI's environment.

    python nni_tuners.py '{"tuner": "TPE", "args": {}, "problems": ["Branin"], "trials": 60, "seeds": 20}'

Prints the least regret that one tuner came to, as JSON: problem → one number per seed.
"""

from __future__ import annotations

import json
import random
import sys
from importlib import import_module
from typing import Any

import quick_sklearn
from problems import PROBLEMS

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


def main(request: dict[str, Any]) -> dict[str, list[float]]:
    """What the request asks for."""
    name, args, trials = request["tuner"], request["args"], request["trials"]
    let_gp_tuner_run()
    quick_sklearn.install()
    return {
        problem: [least_regret(name, args, problem, trials, seed) for seed in range(request["seeds"])]
        for problem in request["problems"]
    }


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
