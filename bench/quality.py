"""How good Trialflow's tuners are beside NNI 3.0's, on the same problems in the same run, and how long one ask takes.

    make bench-quality                                        everything; hours on 2 cores, most of it NNI's Metis
    python bench/quality.py --seeds 5 --tuners TPE,Random     a part of it

The figure is the regret of the best of 60 trials, one after the other: its median over the seeds. NNI is installed into
an environment of its own below .trialflow/bench, with the libraries of its time, without which its GPTuner fails. What
its tuners came to is kept there, in regrets.jsonl, so that a run that was ended goes on, and is not measured again.
Random is the control: both sides draw from the same priors, so that its ratio shows how far from 1 chance alone gets.
Hyperband, BOHB, GridSearch and BatchTuner are not compared with their namesakes: the first two save budget, which these
problems have none of, and what the others suggest is fixed. Tests show that brackets and orders are NNI's.

Ends with 1 when an aim is missed. The time of an ask is judged by the processor's: on a busy machine the clock measures
others as well.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import sqlalchemy as sa
from problems import PROBLEMS
from rich.console import Console
from rich.table import Table

from trialflow.experiment.running.ask import ask
from trialflow.experiment.running.preload import preload
from trialflow.records import AlgorithmSpec, ExperimentStatus, TrialStatus
from trialflow.search_space import parse_search_space
from trialflow.store import open_store
from trialflow.store.tables import trials as trials_table
from trialflow.testing import make_spec
from trialflow.testing.algorithm_contracts import Conversation
from trialflow.tuners import Suggestion, get_tuner

BENCH = Path(__file__).resolve().parent
FOLDER = BENCH.parent / ".trialflow" / "bench"
NNI = ["nni==3.0", "hyperopt", "numpy<2", "scipy<1.11", "scikit-learn<1.4", "setuptools<81"]
# With NNI's defaults one ask of Metis takes a minute and a half there.
TUNERS = {
    "TPE": {},
    "Random": {},
    "Anneal": {},
    "Evolution": {},
    "GPTuner": {},
    "MetisTuner": {"selection_num_starting_points": 60},
    "SMAC": {},
    "CmaEs": {},
    "QMC": {},
}
WITHOUT_NAMESAKE = ("SMAC", "CmaEs", "QMC")  # SMAC's package of NNI's time cannot be built any more.
# Most of NNI's median regret that a tuner may have.
AIMS = {name: 1.0 if name == "TPE" else 1.1 for name in TUNERS if name not in ("Random", *WITHOUT_NAMESAKE)}
# Most seconds of one ask, warm and in a forked task, by tuner and finished trials.
ASK_AIMS = {("TPE", 1000): (0.1, 1.0), ("GPTuner", 1000): (5.0, 5.0)}
ASKED = ("TPE", "Anneal", "Evolution", "GPTuner")
ID = "quality"


def install_nni() -> Path:
    """NNI in an environment of its own; gives its Python."""
    environment = FOLDER / "nni-tuners"
    python = environment / "bin" / "python"
    if not (environment / ".ready").exists():
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *NNI], check=True)
        (environment / ".ready").touch()
    return python


def problems_for(name: str) -> list[str]:
    """The problems whose search space a tuner takes."""
    tuner = get_tuner(AlgorithmSpec(name))
    return [key for key, problem in PROBLEMS.items() if not tuner.check_space(parse_search_space(problem.space)[0])]


def run_ours(name: str, problem_name: str, trials: int, seed: int) -> float:
    """The least regret of so many trials, one after the other."""
    problem, tuner = PROBLEMS[problem_name], get_tuner(AlgorithmSpec(name, TUNERS[name]))
    return min(map(problem.regret, Conversation(tuner, problem.space, seed).run(trials, problem.regret)))


def run_nni(python: Path, name: str, problems: list[str], trials: int, seeds: int) -> dict[str, list[float]]:
    """The same of NNI's tuner, by problem and seed."""
    asked = {"tuner": name, "args": TUNERS[name], "problems": problems, "trials": trials, "seeds": seeds}
    kept = {"kept": str(python.parent.parent / "regrets.jsonl")}
    command = [str(python), "-W", "ignore", str(BENCH / "nni_tuners.py"), json.dumps(asked | kept)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"NNI's {name} failed")
    found: dict[str, list[float]] = json.loads(done.stdout)
    return found


def compare(console: Console, names: list[str], trials: int, seeds: int) -> list[str]:
    """Print the table of regrets, one line as soon as it is known; gives the aims that were missed."""
    python, missed = install_nni(), []
    pool = ProcessPoolExecutor()
    rows = [("tuner", "problem", "Trialflow", "NNI 3.0", "ratio", "aim")]
    for name in names:
        problems = problems_for(name)
        nnis = {} if name in WITHOUT_NAMESAKE else run_nni(python, name, problems, trials, seeds)
        for problem in problems:
            ours = statistics.median(pool.map(partial(run_ours, name, problem, trials), range(seeds)))
            rows.append((name, problem, f"{ours:.3g}", *_beside(name, ours, nnis.get(problem))))
            console.print(" ".join(rows[-1]), highlight=False)
            if name in AIMS and ours > AIMS[name] * statistics.median(nnis[problem]):
                missed.append(f"{name} on {problem}: {rows[-1][4]} times NNI's regret, not {rows[-1][5]}")
    table = Table(*rows[0], title=f"Median regret of {trials} trials over {seeds} seeds; less is better")
    for row in rows[1:]:
        table.add_row(*row)
    console.print(table)
    return missed


def _beside(name: str, ours: float, nnis: list[float] | None) -> tuple[str, str, str]:
    if nnis is None:
        return "", "", ""
    nni = statistics.median(nnis)
    return f"{nni:.3g}", f"{ours / nni:.2f}", f"≤ {AIMS[name]}" if name in AIMS else ""


# ── the time of one ask ──────────────────────────────────────────────────────────────────────────────────────────────


def fill_store(url: str, trials: int) -> None:
    """Make an experiment with so many finished trials."""
    problem = PROBLEMS["Hartmann6"]
    store = open_store(url)
    spec = make_spec(search_space=problem.space, max_trial_number=trials + 1)
    store.create_experiment(ID, spec, "/")
    store.change_status(ID, ExperimentStatus.RUNNING, from_=[ExperimentStatus.INITIALIZED])
    common = {"experiment_id": ID, "batch": 1, "run_id": "bench", "status": TrialStatus.SUCCEEDED, "attempt": 1,
              "claimed_at": 1.0, "ended_at": 2.0, "reported_at": 3.0, "reason": "", "note": {}}  # fmt: skip
    rows = []
    for number in range(trials):
        parameters = _point(number)
        own = {"id": f"{number:05d}", "number": number, "slot": number}
        rows.append({**common, **own, "parameters": parameters, "value": problem.regret(parameters)})
    with sa.create_engine(url).begin() as connection:
        connection.execute(trials_table.insert(), rows)


def _point(number: int) -> dict[str, float]:
    generator = random.Random(number)
    return {f"x{index}": generator.random() for index in range(6)}


def time_ask(url: str, name: str) -> tuple[float, float]:
    """Seconds of one ask by the clock and of the processor, everything that it reads from the store included."""
    store = open_store(url)
    experiment = store.get_experiment(ID)
    spec = replace(experiment.spec, tuner=AlgorithmSpec(name, {"optimize_mode": "minimize"}))
    start, cpu = time.perf_counter(), time.process_time()
    assert isinstance(ask(replace(experiment, spec=spec), store), Suggestion)
    return time.perf_counter() - start, time.process_time() - cpu


def time_fresh_ask(url: str, name: str) -> tuple[float, float]:
    """The same of a new process, from its start to its end, imports included."""
    start, cpu = time.perf_counter(), _cpu_of_children()
    subprocess.run([sys.executable, __file__, "--ask", name, url], check=True)
    return time.perf_counter() - start, _cpu_of_children() - cpu


def time_forked_ask(url: str, name: str) -> tuple[float, float]:
    """The same of a process that is forked, as Airflow's tasks are, from one that was warmed up as the scheduler is."""
    command = [sys.executable, __file__, "--fork", name, url]
    seconds, cpu = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(seconds), float(cpu)


def fork_ask(url: str, name: str) -> None:
    """Warm up, fork, ask in the child, and print what that took from the fork to the child's end."""
    os.environ["TRIALFLOW_STORE"] = url
    preload()
    start, cpu = time.perf_counter(), _cpu_of_children()
    child = os.fork()
    if child == 0:
        time_ask(url, name)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    print(time.perf_counter() - start, _cpu_of_children() - cpu)


def _cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def time_asks(console: Console, sizes: list[int], names: list[str]) -> list[str]:
    """Print how long an ask takes, by the clock and of the processor; gives the aims that were missed."""
    missed = []
    columns = ("tuner", "finished trials", "warm", "CPU", "forked task", "CPU", "new process", "CPU")
    table = Table(*columns, title="One ask on Hartmann6, s")
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            url = f"sqlite:///{folder}/store.db"
            fill_store(url, size)
            for name in names:
                time_ask(url, name)
                asks = [time_ask(url, name) for _ in range(3)]
                warm = [statistics.median(column) for column in zip(*asks, strict=True)]
                figures = (*warm, *time_forked_ask(url, name), *time_fresh_ask(url, name))
                table.add_row(name, str(size), *(f"{seconds:.3f}" for seconds in figures))
                for took, most in zip((figures[1], figures[3]), ASK_AIMS.get((name, size), ()), strict=False):
                    if took > most:
                        missed.append(f"{name}, an ask on {size} trials: {took:.3f} s of the processor, not ≤ {most} s")
    console.print(table)
    console.print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    return missed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tuners", default=",".join(TUNERS), help="names, separated by commas; none: the times only")
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--sizes", default="1000,10000", help="finished trials at which an ask is timed; may be empty")
    parser.add_argument("--asked", default=",".join(ASKED), help="the tuners whose asks are timed")
    parser.add_argument("--ask", nargs=2, metavar=("TUNER", "URL"), help=argparse.SUPPRESS)
    parser.add_argument("--fork", nargs=2, metavar=("TUNER", "URL"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ask:
        time_ask(arguments.ask[1], arguments.ask[0])
        return
    if arguments.fork:
        fork_ask(arguments.fork[1], arguments.fork[0])
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    console = Console(width=110)
    missed = []
    names = [name for name in arguments.tuners.split(",") if name]
    if names:
        missed += compare(console, names, arguments.trials, arguments.seeds)
    sizes = [int(size) for size in arguments.sizes.split(",") if size]
    if sizes:
        missed += time_asks(console, sizes, [name for name in arguments.asked.split(",") if name])
    if missed:
        raise SystemExit("missed:\n" + "\n".join(missed))


if __name__ == "__main__":
    main()
