"""The shape of the tree: what `make check` cannot say with a contract."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripts.measure_structure import find_circles, list_modules

CHECKOUT = Path(__file__).parents[2]


def test_no_two_modules_import_each_other() -> None:
    assert len(list_modules(CHECKOUT)) > 150
    assert find_circles(CHECKOUT) == []


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("from trialflow.b import y", "from trialflow.a import x"),
        ("from trialflow import b", "import trialflow.a"),
        ("from . import b", "from .a import x"),
        ("from trialflow.b import y", "def load():\n    from trialflow.a import x"),
        ("from trialflow.b import y", "if TYPE_CHECKING:\n    from trialflow.a import x"),
        ("from trialflow.b import y", "from trialflow import x"),
        ("from trialflow.sdk.nni import z", "from trialflow.a import x"),
    ],
    ids=["plain", "whole", "relative", "in a function", "for types", "over the package", "over the sdk"],
)
def test_a_circle_is_found_however_it_is_imported(tmp_path: Path, first: str, second: str) -> None:
    sdk = tmp_path / "include" / "trialflow" / "sdk" / "nni"
    sdk.mkdir(parents=True)
    (tmp_path / "plugins").mkdir()
    package = sdk.parents[1]
    (package / "__init__.py").write_text("from trialflow.a import x\n" if "import x" in second else "")
    (package / "a.py").write_text(first)
    (package / "b.py").write_text(second)
    (sdk / "__init__.py").write_text("from trialflow.b import y\n" if "sdk" in first else "")

    (circle,) = find_circles(tmp_path)

    assert circle >= {"trialflow.a", "trialflow.b"}
