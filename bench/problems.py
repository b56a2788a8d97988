"""The problems of `quality.py`: functions to be minimised, whose least value is 0.

Standard library only: NNI's side imports it, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Problem:
    """A search space as in an experiment file, and the regret of a point in it."""

    space: dict[str, Any]
    regret: Callable[[dict[str, Any]], float]


def _uniform(low: float, high: float) -> dict[str, Any]:
    return {"_type": "uniform", "_value": [low, high]}


def _branin(point: dict[str, Any]) -> float:
    x, y = point["x"], point["y"]
    bowl = (y - 5.1 / (4 * math.pi**2) * x * x + 5 / math.pi * x - 6) ** 2
    return bowl + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10 - 0.397887


_SCALES = (
    (10, 3, 17, 3.5, 1.7, 8),
    (0.05, 10, 17, 0.1, 8, 14),
    (3, 3.5, 1.7, 10, 17, 8),
    (17, 8, 0.05, 10, 0.1, 14),
)
_CENTRES = (
    (0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886),
    (0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991),
    (0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650),
    (0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381),
)
_DEPTHS = (1.0, 1.2, 3.0, 3.2)


def _hartmann6(point: dict[str, Any]) -> float:
    x = [point[f"x{index}"] for index in range(6)]
    pits = (
        depth * math.exp(-sum(a * (xi - c) ** 2 for a, xi, c in zip(scales, x, centres, strict=True)))
        for depth, scales, centres in zip(_DEPTHS, _SCALES, _CENTRES, strict=True)
    )
    return 3.32237 - sum(pits)


def _nested(point: dict[str, Any]) -> float:
    """Two branches; the one that is harder to tune is the better one."""
    layer = point["layer"]
    rate = (math.log10(point["rate"]) + 3) ** 2 / 4
    if layer["_name"] == "Conv":
        return rate + abs(layer["kernel"] - 5) / 4 + 4 * (layer["dropout"] - 0.3) ** 2
    return rate + 0.4 + abs(layer["units"] - 100) / 100


def _mixed(point: dict[str, Any]) -> float:
    choice = {"relu": 0.0, "tanh": 0.05, "sigmoid": 0.2}[point["activation"]]
    rate = 0.1 * (math.log10(point["rate"]) + 2.5) ** 2
    return choice + rate + ((point["units"] - 48) / 60) ** 2 + (point["dropout"] - 0.2) ** 2


_RATE = {"_type": "loguniform", "_value": [1e-6, 1]}
PROBLEMS = {
    "Branin": Problem({"x": _uniform(-5, 10), "y": _uniform(0, 15)}, _branin),
    "Hartmann6": Problem({f"x{index}": _uniform(0, 1) for index in range(6)}, _hartmann6),
    "nested": Problem(
        {
            "rate": _RATE,
            "layer": {
                "_type": "choice",
                "_value": [
                    {
                        "_name": "Conv",
                        "kernel": {"_type": "choice", "_value": [1, 3, 5, 7, 9]},
                        "dropout": _uniform(0, 1),
                    },
                    {"_name": "Dense", "units": {"_type": "randint", "_value": [1, 200]}},
                ],
            },
        },
        _nested,
    ),
    "mixed": Problem(
        {
            "rate": _RATE,
            "units": {"_type": "randint", "_value": [4, 128]},
            "dropout": {"_type": "quniform", "_value": [0, 0.5, 0.05]},
            "activation": {"_type": "choice", "_value": ["sigmoid", "relu", "tanh"]},
        },
        _mixed,
    ),
}
