"""The table of bundled simulators."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

README = Path(__file__).parents[2] / "README.md"


def test_the_readme_has_the_table_that_simulators_cards_and_records_give(
    program: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    module = program("benchmarks/model_zoo.py")
    copy = tmp_path / "README.md"
    shutil.copy(README, copy)
    module.main(module.Args(readme=copy))
    assert copy.read_text() == README.read_text()
    assert copy.read_text().count("[card](") == 8
