"""Mutants are made where code is evaluated, the same ones every time; their tests decide whether they live."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

SOURCE = '''
from typing import Literal

def clamp(x: int, most: Literal[9] = 9) -> int | None:
    """At most 9."""
    return x if x < most else most
'''
TESTS = """
from lssvwm_env.envs.clamp import clamp

def test_clamp() -> None:
    assert clamp(3) == 3
    assert clamp(11) == 9
"""


@pytest.fixture
def module(program: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark, of a repository with one function and one test."""
    module = program("benchmarks/mutants.py")
    repository = tmp_path / "repository"
    for folder in ("lssvwm_env/envs", "tests/lssvwm_env/envs"):
        (repository / folder).mkdir(parents=True)
    (repository / "lssvwm_env/__init__.py").touch()
    (repository / "lssvwm_env/envs/clamp.py").write_text(SOURCE)
    (repository / "tests/lssvwm_env/envs/test_clamp.py").write_text(TESTS)
    monkeypatch.setattr(module, "REPOSITORY", repository)
    monkeypatch.setattr(module, "COPIED", ("lssvwm_env", "tests"))
    return module


def test_annotations_are_left_alone(module: ModuleType) -> None:
    faults = list(module.faults("clamp.py", SOURCE))
    assert sorted(fault.operator for fault in faults) == [
        "AddNot",
        "NumberReplacer",
        "ReplaceComparisonOperator_Lt_GtE",
        "ReplaceComparisonOperator_Lt_LtE",
    ]


def test_the_sample_of_a_function_does_not_depend_on_other_code(module: ModuleType) -> None:
    longer = SOURCE.replace("def clamp", "def negative(x):\n    return -x\n\ndef clamp")
    ranks = [{fault.rank(0) for fault in module.faults("clamp.py", source)} for source in (SOURCE, longer)]
    assert ranks[0] < ranks[1]
    assert ranks[0].isdisjoint(fault.rank(1) for fault in module.faults("clamp.py", SOURCE))


def test_the_same_program_is_not_tried_twice(module: ModuleType) -> None:
    mutants = module.sample(module.REPOSITORY, size=10, seed=0)
    programs = [mutant.mutated.replace(" ", "").replace("not", "") for mutant in mutants]
    assert len(set(programs)) == len(programs)


def test_what_tests_notice_is_killed_and_stays_so_and_survivors_are_tried_again(
    module: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    args = module.Args(sample=10, jobs=1, out=tmp_path / "out")
    module.main(args)
    results = json.loads((args.out / "results.json").read_text())
    outcomes = {result["after"]: result["outcome"] for result in results.values()}
    assert outcomes.pop("return x if x <= most else most") == "survived"  # the same function
    assert outcomes and set(outcomes.values()) == {"killed"}
    assert "+ return x if x <= most else most" in capsys.readouterr().out
    assert (module.REPOSITORY / "lssvwm_env/envs/clamp.py").read_text() == SOURCE

    for result in results.values():
        if result["outcome"] != "survived":
            result["seconds"] = -1.0
    (args.out / "results.json").write_text(json.dumps(results))
    survivors = [name for name, result in results.items() if result["outcome"] == "survived"]
    (tmp_path / "reasons.json").write_text(json.dumps(dict.fromkeys(survivors, "the same function")))
    monkeypatch.setattr(module, "REASONS", tmp_path / "reasons.json")
    module.main(args)
    again = json.loads((args.out / "results.json").read_text())
    assert {name for name, result in again.items() if result["seconds"] == -1.0} == {
        name for name, result in results.items() if result["outcome"] == "killed"
    }
    assert [result["reason"] for result in again.values() if result["outcome"] == "survived"] == ["the same function"]
    assert "the same function" in capsys.readouterr().out


def test_tests_that_fail_without_mutants_say_nothing(module: ModuleType, tmp_path: Path) -> None:
    (module.REPOSITORY / "tests/lssvwm_env/envs/test_clamp.py").write_text(TESTS.replace("== 9", "== 8"))
    with pytest.raises(RuntimeError, match=r"fail without any mutant \(exit code 1\); mend them first"):
        module.main(module.Args(sample=1, jobs=1, out=tmp_path / "out"))


def test_a_mutant_that_never_ends_is_ended(module: ModuleType, tmp_path: Path) -> None:
    tree = module.copy_tree(tmp_path / "tree")
    (tree / "tests/test_endless.py").write_text("def test_endless():\n    while True:\n        pass\n")
    assert module.run_tests(tree, ["tests/test_endless.py"], limit=2.0) is None


@pytest.mark.parametrize("path", ["world_models/lssvwm_models/memory/ssm.py", "agents/lssvwm_agents/planning/mcts.py"])
def test_the_tests_of_a_module_come_before_those_of_its_neighbours(
    program: Callable[[str], ModuleType], path: str
) -> None:
    module = program("benchmarks/mutants.py")
    own, *neighbours = module.tests_of(path, module.REPOSITORY)
    package, room, name = Path(path).parts[-3:]
    assert own == f"tests/{package}/{room}/test_{name}"
    assert neighbours and own not in neighbours
    assert all((module.REPOSITORY / neighbour).is_file() for neighbour in neighbours)
