"""The page about experiment files names every key that is read, and every platform that trials run on."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import BaseModel

from trialflow.config import v1, v2
from trialflow.training.base import REGISTRY as TRAINING_SERVICES

PAGE = (Path(__file__).parents[2] / "docs" / "experiment-files.md").read_text()


def section(title: str) -> str:
    return re.split(r"^## ", PAGE.split(f"\n## {title}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]


@pytest.mark.parametrize(("title", "schema"), [("v1", v1), ("v2", v2)])
def test_every_key_of_a_format_stands_in_its_tables(title: str, schema: ModuleType) -> None:
    models = [item for item in vars(schema).values() if isinstance(item, type) and issubclass(item, BaseModel)]
    keys = {key for model in models for key in model.model_fields}

    assert keys - set(re.findall(r"`(\w+)`", section(title))) == set()


def test_the_platforms_that_are_used_are_those_that_there_are() -> None:
    rows = re.findall(r"^\| (.+?) \| .+? \| (.+) \|$", section("Platforms"), flags=re.MULTILINE)
    used = {name for names, what in rows for name in re.findall(r"`(\w+)`", names) if what.startswith("used")}

    assert used == set(TRAINING_SERVICES)
