"""What an experiment leaves for people and programs: a table, a summary, and two pictures."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialflow.messages import is_formula
from trialflow.records import DEFAULT, Experiment, JsonObject, OptimizeMode, Trial, TrialStatus, named_parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

RESULT_FILE = "result.json"
TRIALS_FILE = "trials.csv"
HISTORY_PICTURE = "history.png"
IMPORTANCE_PICTURE = "importance.png"
FRONT_PICTURE = "front.png"


@dataclass(frozen=True)
class Summary:
    """The outcome of an experiment.

    Attributes:
        best: The trial with the best value; ``None`` when no trial has one.
        counts: How many trials ended in each status.
        front: With several objectives, the trials than which no other is better in everything; else none.
        objectives: By trial id, what each trial reached in all of several objectives.
    """

    experiment: Experiment
    best: Trial | None
    counts: dict[str, int]
    front: Sequence[Trial] = ()
    objectives: Mapping[str, dict[str, float]] = field(default_factory=dict)

    def to_json(self) -> JsonObject:
        """As it stands in `RESULT_FILE`, in the XCom of the last task and in the asset's event."""
        spec = self.experiment.spec
        several = {}
        if len(spec.objectives) > 1:
            several = {
                "objectives": {key: mode.value for key, mode in spec.objectives.items()},
                "front": [{**_describe(trial), "values": self.objectives[trial.id]} for trial in self.front],
            }
        return {
            "experiment_id": self.experiment.id,
            "experiment_name": spec.name,
            "status": self.experiment.status.value,
            "status_reason": self.experiment.status_reason,
            "optimize_mode": spec.optimize_mode.value,
            "best": None if self.best is None else _describe(self.best),
            **several,
            "trials": self.counts,
            "folder": self.experiment.folder,
            "started_at": self.experiment.started_at,
            "ended_at": self.experiment.ended_at,
        }


def _describe(trial: Trial) -> JsonObject:
    return {"id": trial.id, "number": trial.number, "value": trial.value, "parameters": trial.parameters}


def find_front(
    trials: Sequence[Trial], values: Mapping[str, dict[str, float]], objectives: Mapping[str, OptimizeMode]
) -> list[Trial]:
    """The trials that no other one dominates, which is to be better in one objective and as good in all others.

    Args:
        trials: All trials, in order; those without a value do not count.
        values: By trial id, its number for each objective.
        objectives: Key → direction.
    """
    signs = {key: -1 if mode is OptimizeMode.MAXIMIZE else 1 for key, mode in objectives.items()}
    losses = {
        trial.id: [sign * values[trial.id][key] for key, sign in signs.items()]
        for trial in trials
        if trial.value is not None
    }

    def is_dominated(mine: list[float]) -> bool:
        return any(
            other != mine and all(a <= b for a, b in zip(other, mine, strict=True)) for other in losses.values()
        )

    return [trial for trial in trials if trial.id in losses and not is_dominated(losses[trial.id])]


def find_best(trials: Sequence[Trial], mode: OptimizeMode) -> Trial | None:
    """The trial with the best value; of equal ones the earlier."""
    best: Trial | None = None
    for trial in trials:
        if trial.value is not None and mode.is_better(trial.value, best.value if best else None):
            best = trial
    return best


def summarize(experiment: Experiment, trials: Sequence[Trial]) -> Summary:
    """Sum an experiment up as it stands now."""
    counts = {status.value: 0 for status in TrialStatus}
    for trial in trials:
        counts[trial.status.value] += 1
    best = find_best(trials, experiment.spec.optimize_mode)
    return Summary(experiment, best, {status: count for status, count in counts.items() if count})


def has_results(experiment: Experiment) -> bool:
    """Whether the results that stand in the experiment's folder are of its present end."""
    try:
        found = json.loads((Path(experiment.folder) / RESULT_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return (found.get("status"), found.get("ended_at")) == (experiment.status.value, experiment.ended_at)


def write_results(
    experiment: Experiment,
    trials: Sequence[Trial],
    importances: dict[str, float],
    objectives: Mapping[str, dict[str, float]],
) -> Summary:
    """Write the result files into the experiment's folder, each whole or not at all.

    Args:
        experiment: The experiment, ended or not.
        trials: All of its trials, in order.
        importances: Parameter → share; the picture of them is left out when there are fewer than two.
        objectives: With several objectives, by trial id: key → number.
    """
    result = summarize(experiment, trials)
    if objectives:
        front = find_front(trials, objectives, experiment.spec.objectives)
        result = replace(result, front=front, objectives=objectives)
    folder = Path(experiment.folder)
    _write(folder / TRIALS_FILE, lambda path: _write_table(path, trials, result))
    _write(folder / RESULT_FILE, lambda path: _write_json(path, result))
    if result.best is not None:
        _write(folder / HISTORY_PICTURE, lambda path: _draw_history(path, experiment, trials))
    if result.front:
        _write(folder / FRONT_PICTURE, lambda path: _draw_front(path, result))
    if len(importances) > 1:
        _write(folder / IMPORTANCE_PICTURE, lambda path: _draw_importances(path, experiment, importances))
    return result


def _write(path: Path, fill: Callable[[Path], None]) -> None:
    partial = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        fill(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _write_json(path: Path, result: Summary) -> None:
    path.write_text(json.dumps(result.to_json(), indent=2) + "\n", encoding="utf-8")


def _write_table(path: Path, trials: Sequence[Trial], result: Summary) -> None:
    """One row per trial, one column per parameter; a nested choice is written as JSON.

    With several objectives there is a column for each beside the default one, and one that says who is of the front.
    """
    keys = [key for key in result.experiment.spec.objectives if key != DEFAULT]
    front = {trial.id for trial in result.front}
    names = list(dict.fromkeys(name for trial in trials for name in named_parameters(trial.parameters)))
    head = ["number", "id", "status", "value", "attempt", "started_at", "ended_at", "exit_code", "reason"]
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        several = [*(f"objective.{key}" for key in keys), "front"] if keys else []
        table.writerow([*head, *several, *(f"parameter.{name}" for name in names)])
        for trial in trials:
            row = [_cell(getattr(trial, name)) for name in head]
            if keys:
                row += [result.objectives.get(trial.id, {}).get(key) for key in keys]
                row.append(int(trial.id in front))
            table.writerow([*row, *(_cell(named_parameters(trial.parameters).get(name)) for name in names)])


def _cell(value: Any) -> Any:
    if isinstance(value, (dict, list)):
        return json.dumps(value)
    if isinstance(value, str) and is_formula(value):
        return f"'{value}"
    return value.value if isinstance(value, TrialStatus) else value


def _draw_history(path: Path, experiment: Experiment, trials: Sequence[Trial]) -> None:
    """Every value by trial number, and the best so far as a line."""
    mode = experiment.spec.optimize_mode
    figure, axes = _new_figure()
    done = [trial for trial in trials if trial.value is not None]
    steps: list[tuple[int, float]] = []
    for trial in done:
        assert trial.value is not None
        improved = mode.is_better(trial.value, steps[-1][1] if steps else None)
        steps.append((trial.number, trial.value if improved else steps[-1][1]))
    axes.plot([trial.number for trial in done], [trial.value for trial in done], "o", color="#4878a8", label="trial")
    axes.step(*zip(*steps, strict=True), where="post", color="#c44e52", label="best so far")
    failed = [trial.number for trial in trials if trial.value is None]
    for number in failed:
        axes.axvline(number, color="#bbbbbb", linewidth=1, zorder=0)
    if failed:
        axes.plot([], [], color="#bbbbbb", label="without a value")
    axes.set_xlabel("trial")
    axes.set_ylabel(f"final metric ({mode.value})")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(frameon=False)
    _save(figure, path, f"{experiment.spec.name} ({experiment.id}): optimisation history")


def _draw_front(path: Path, result: Summary) -> None:
    """The first two objectives of every trial; those of the front stand out."""
    first, second = list(result.experiment.spec.objectives.items())[:2]
    figure, axes = _new_figure()
    points = list(result.objectives.values())
    axes.plot(*_columns(points, first[0], second[0]), "o", color="#bbbbbb", label="trial")
    front = [result.objectives[trial.id] for trial in result.front]
    axes.plot(*_columns(front, first[0], second[0]), "o", color="#c44e52", label="front")
    axes.set_xlabel(_plain_text(f"{first[0]} ({first[1].value})"))
    axes.set_ylabel(_plain_text(f"{second[0]} ({second[1].value})"))
    axes.legend(frameon=False)
    _save(figure, path, f"{result.experiment.spec.name} ({result.experiment.id}): Pareto front")


def _columns(points: list[dict[str, float]], *keys: str) -> list[list[float]]:
    return [[point[key] for point in points] for key in keys]


def _draw_importances(path: Path, experiment: Experiment, importances: dict[str, float]) -> None:
    """A bar per parameter, the most important on top."""
    figure, axes = _new_figure()
    names = list(importances)[::-1]
    bars = axes.barh([_plain_text(name) for name in names], [importances[name] for name in names], color="#4878a8")
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.margins(x=0.1)
    axes.set_xlabel("share of the variance of the final metric")
    _save(figure, path, f"{experiment.spec.name} ({experiment.id}): parameter importance")


def _new_figure() -> tuple[Any, Any]:
    """A figure without pyplot, whose global state and window system a worker has no use for."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    return figure, figure.add_subplot()


def _save(figure: Any, path: Path, title: str) -> None:
    figure.suptitle(_plain_text(title), fontsize=11)
    figure.savefig(path, format="png")


def _plain_text(text: str) -> str:
    """Keep matplotlib from reading a name as mathematics."""
    return text.replace("$", r"\$")
