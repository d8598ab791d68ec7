"""Do the tests notice when the code is wrong? Put small faults into it, one at a time, and run the tests of that file.

    make mutants
    python benchmarks/mutants.py --sample 20 --jobs 1

The faults are Cosmic Ray's (https://cosmic-ray.readthedocs.io): a `+` becomes a `-`, a `<` a `<=`, a 1 a 2, an `and` an
`or`, a loop runs no times. Of the many replacements of one operator only the usual ones are taken, as the others crash
at once and would flatter the tests; of a number only its successor. Annotations are left out: nobody evaluates them.

The sample is fixed: mutants are ranked by a hash of what they change and of the seed, so that work on one function
leaves the sample of all others as it is. Each is tried in a copy of the repository, against the tests of its module and
of its neighbours (`NEIGHBOURS`). All go into `results.json`; a second run keeps what was killed, unless its module has
changed since, and tries survivors again. Why a survivor may live stands in `mutants_reasons.json`, by its identity.
"""

import ast
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from tempfile import TemporaryDirectory
from typing import Any, Final

import tyro
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator
from rich.console import Console
from rich.table import Table

from lssvwm_models.utils.files import write_bytes

REPOSITORY: Final = Path(__file__).parents[1]
REASONS: Final = Path(__file__).with_name("mutants_reasons.json")
COPIED: Final = ("agents", "benchmarks", "examples", "lssvwm_env", "tests", "world_models", "pyproject.toml")
IMPORT_ROOTS: Final = ("world_models", ".", "agents")
PLUGIN: Final = ("-p", "_hypothesis_pytestplugin", "--hypothesis-seed=0")
ROOMS: Final = (
    "world_models/lssvwm_models/memory",
    "world_models/lssvwm_models/model",
    "lssvwm_env/envs",
    "agents/lssvwm_agents/planning",
    "agents/lssvwm_agents/learning",
)
NEIGHBOURS: Final = {  # room: tests, beside those of the module itself, that a fault in it may fail
    "memory": ("lssvwm_models/memory", "lssvwm_models/model/test_world_model.py"),
    "model": (
        "lssvwm_models/model",
        "lssvwm_models/execution/test_recorded.py",
        "lssvwm_models/training/test_losses.py",
    ),
    "envs": ("lssvwm_env/envs",),
    "planning": ("lssvwm_agents/planning",),
    "learning": ("lssvwm_agents/learning",),
}
ALONE: Final = ("test_mamba_kernels.py",)  # a minute long, and about no other module
BINARY: Final = {
    "Add": ["Sub"],
    "Sub": ["Add"],
    "Mul": ["Div"],
    "Div": ["Mul"],
    "FloorDiv": ["Mul"],
    "Mod": ["FloorDiv"],
    "Pow": ["Mul"],
    "BitAnd": ["BitOr"],
    "BitOr": ["BitAnd"],
    "BitXor": ["BitAnd"],
    "LShift": ["RShift"],
    "RShift": ["LShift"],
}
COMPARISON: Final = {
    "Eq": ["NotEq"],
    "NotEq": ["Eq"],
    "Lt": ["LtE", "GtE"],
    "LtE": ["Lt", "Gt"],
    "Gt": ["GtE", "LtE"],
    "GtE": ["Gt", "Lt"],
    "Is": ["IsNot"],
    "IsNot": ["Is"],
}
OPERATORS: Final = (
    *(f"ReplaceBinaryOperator_{old}_{new}" for old, several in BINARY.items() for new in several),
    *(f"ReplaceComparisonOperator_{old}_{new}" for old, several in COMPARISON.items() for new in several),
    "ReplaceUnaryOperator_Delete_USub",
    "ReplaceUnaryOperator_Delete_Not",
    "ReplaceUnaryOperator_Delete_Invert",
    "ReplaceTrueWithFalse",
    "ReplaceFalseWithTrue",
    "ReplaceAndWithOr",
    "ReplaceOrWithAnd",
    "ReplaceBreakWithContinue",
    "ReplaceContinueWithBreak",
    "AddNot",
    "NumberReplacer",
    "ZeroIterationForLoop",
    "RemoveDecorator",
    "ExceptionReplacer",
)


@dataclass
class Args:
    """Which mutants, and where the results go.

    Attributes:
        sample: How many mutants.
        seed: Which ones.
        jobs: Mutants that are tried at the same time.
        out: Folder of `results.json`, which a later run goes on from.
    """

    sample: int = 200
    seed: int = 0
    jobs: int = 2
    out: Path = Path("runs/mutants")


@dataclass(frozen=True)
class Fault:
    """A place in a module, and what Cosmic Ray would do there."""

    path: str
    operator: str
    occurrence: int
    line: int
    identity: str

    def rank(self, seed: int) -> str:
        """Its place in the random order of all faults."""
        return hashlib.sha256(f"{seed} {self.identity}".encode()).hexdigest()


@dataclass(frozen=True)
class Mutant:
    """A fault, and the module with it."""

    fault: Fault
    source: str
    mutated: str

    def description(self) -> dict[str, Any]:
        """For the results: where it is, and the lines before and after."""
        before = self.source.splitlines()
        after = self.mutated.splitlines()
        return {
            "path": self.fault.path,
            "line": self.fault.line,
            "operator": self.fault.operator,
            "before": before[self.fault.line - 1].strip(),
            "after": after[self.fault.line - 1].strip() if len(after) == len(before) else "",
            "module": hashlib.sha256(self.source.encode()).hexdigest()[:16],
        }


def faults(path: str, source: str) -> Iterator[Fault]:
    """All faults of a module that `OPERATORS` can make."""
    nodes = list(ast_nodes(get_ast(source)))
    unevaluated = list(_annotations(nodes))
    lines = source.splitlines()
    alike: Counter[str] = Counter()
    for name in OPERATORS:
        operator = get_operator(f"core/{name}")()
        places = [place for node in nodes for place in operator.mutation_positions(node)]
        for occurrence, (start, end) in enumerate(places):
            if name == "NumberReplacer" and occurrence % 2:  # every number comes twice: plus one, and minus one
                continue
            text = lines[start[0] - 1].strip()
            identity = f"{path} {name} {text}"
            alike[identity] += 1
            hidden = any(first <= start and end <= last for first, last in unevaluated)
            if not hidden and text != "if TYPE_CHECKING:":
                yield Fault(path, name, occurrence, start[0], f"{identity} {alike[identity]}")


def _annotations(nodes: Sequence[Any]) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """From where to where annotations go."""
    for node in nodes:
        found = {
            "funcdef": lambda node: node.annotation,
            "param": lambda node: node.annotation,
            "annassign": lambda node: node.children[1],
        }.get(node.type, lambda node: None)(node)
        if found is not None:
            yield found.start_pos, found.end_pos


def sample(tree: Path, size: int, seed: int) -> list[Mutant]:
    """The first `size` mutants in the order of `Fault.rank`, no two of them the same program."""
    paths = [path.relative_to(tree).as_posix() for room in ROOMS for path in sorted((tree / room).glob("*.py"))]
    sources = {path: (tree / path).read_text(encoding="utf-8") for path in paths}
    ranked = sorted(
        (fault for path, source in sources.items() for fault in faults(path, source)),
        key=lambda fault: fault.rank(seed),
    )
    programs = {ast.dump(ast.parse(source)) for source in sources.values()}
    chosen: list[Mutant] = []
    for fault in ranked:
        source = sources[fault.path]
        mutated = mutate_code(source, get_operator(f"core/{fault.operator}")(), fault.occurrence)
        try:
            program = ast.dump(ast.parse(mutated))
        except SyntaxError:
            continue
        if program not in programs:
            programs.add(program)
            chosen.append(Mutant(fault, source, mutated))
        if len(chosen) == size:
            break
    return chosen


def tests_of(path: str, tree: Path) -> list[str]:
    """The test files of a module, its own first."""
    package, room, module = Path(path).parts[-3:]
    tests = tree / "tests"
    own = tests / package / room / f"test_{module}"
    files = [own] if own.is_file() else []
    for neighbour in NEIGHBOURS[room]:
        found = sorted((tests / neighbour).glob("test_*.py")) if (tests / neighbour).is_dir() else [tests / neighbour]
        files += [file for file in found if file.is_file() and file != own and file.name not in ALONE]
    return [file.relative_to(tree).as_posix() for file in files]


def copy_tree(folder: Path) -> Path:
    """Copy what the tests need to `folder`, compiled so that no byte code outlives its source."""
    folder.mkdir(parents=True)
    for name in COPIED:
        if (REPOSITORY / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "records")
            shutil.copytree(REPOSITORY / name, folder / name, ignore=ignored)
        else:
            shutil.copy(REPOSITORY / name, folder / name)
    # By default a cached module is taken as current by its size and its second: a mutant has both of the one before.
    compiled = [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "checked-hash", str(folder)]
    subprocess.run(compiled, check=True)
    return folder


def run_tests(tree: Path, arguments: Sequence[str], limit: float) -> int | None:
    """The exit code of pytest in a copy of the repository; None where it took longer than `limit` seconds."""
    roots = os.pathsep.join(str(tree / root) for root in IMPORT_ROOTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *PLUGIN, *arguments]
    variables = {"PYTHONPATH": roots, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    variables["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # the others take two seconds to load
    with (tree / "pytest.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=tree, env=os.environ | variables, stdout=log, stderr=log, start_new_session=True
        )
        try:
            return process.wait(limit)
        except subprocess.TimeoutExpired:
            return None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def durations(tree: Path, files: Sequence[str]) -> dict[str, float]:
    """Seconds of each test file, unmutated.

    Raises:
        RuntimeError: If a test fails: then nothing can be said about mutants.
    """
    report = tree / "durations.xml"
    code = run_tests(tree, [*files, f"--junitxml={report}", "-o", "junit_family=xunit1"], 3600)
    if code != 0:
        tail = "\n".join((tree / "pytest.log").read_text().splitlines()[-30:])
        raise RuntimeError(f"the tests fail without any mutant (exit code {code}); mend them first:\n{tail}")
    seconds = dict.fromkeys(files, 0.0)
    for case in ElementTree.parse(report).iter("testcase"):
        seconds[case.attrib["file"]] += float(case.attrib["time"])
    return seconds


def try_mutant(mutant: Mutant, tree: Path, seconds: dict[str, float]) -> dict[str, Any]:
    """Run the tests of one mutant; its module in `tree` is then as it was."""
    module = tree / mutant.fault.path
    files = tests_of(mutant.fault.path, tree)
    files.sort(key=lambda file: (not file.endswith(f"/test_{module.name}"), seconds[file]))  # most die early
    limit = 60 + 5 * sum(seconds[file] for file in files)
    began = time.perf_counter()
    module.write_text(mutant.mutated, encoding="utf-8")
    try:
        code = run_tests(tree, ["-x", *files], limit)
    finally:
        module.write_text(mutant.source, encoding="utf-8")
    if code not in (0, 1, 2, 3, None):  # passed, failed, no import, crashed, too slow
        raise RuntimeError(f"pytest ended with code {code}: {(tree / 'pytest.log').read_text()[-2000:]}")
    outcome = {0: "survived", None: "too slow"}.get(code, "killed")
    took = round(time.perf_counter() - began, 1)
    return mutant.description() | {"outcome": outcome, "seconds": took}


def report(results: Sequence[dict[str, Any]], console: Console) -> None:
    """Print how many were killed, room by room, and each survivor."""
    table = Table("room", "mutants", "killed", "share")
    for room in (*ROOMS, ""):
        here = [result for result in results if result["path"].startswith(room)]
        killed = sum(result["outcome"] != "survived" for result in here)
        table.add_row(room or "all", str(len(here)), str(killed), f"{killed / len(here):.1%}" if here else "")
    console.print(table)
    plain: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}
    for result in results:
        if result["outcome"] == "survived":
            reason = result.get("reason") or "no reason given"
            console.print(f"\n{result['path']}:{result['line']} {result['operator']}: {reason}", **plain)
            console.print(f"- {result['before']}\n+ {result['after']}", **plain)


def main(args: Args) -> None:
    """Try the sample, and report."""
    console = Console()
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "results.json"
    earlier: dict[str, dict[str, Any]] = json.loads(file.read_text()) if file.is_file() else {}
    reasons: dict[str, str] = json.loads(REASONS.read_text())
    with TemporaryDirectory() as temporary, ThreadPoolExecutor(args.jobs) as pool:
        trees: Queue[Path] = Queue()
        for job in range(args.jobs):
            trees.put(copy_tree(Path(temporary) / str(job)))
        first = Path(temporary) / "0"
        mutants = {mutant.fault.identity: mutant for mutant in sample(first, args.sample, args.seed)}
        results = {
            name: old
            for name, old in earlier.items()
            if name in mutants
            and old["outcome"] != "survived"
            and old["module"] == mutants[name].description()["module"]
        }
        left = {name: mutant for name, mutant in mutants.items() if name not in results}
        files = sorted({test for mutant in left.values() for test in tests_of(mutant.fault.path, first)})
        console.print(f"{len(results)} of {len(mutants)} mutants are known; first, {len(files)} test files without any")
        seconds = durations(first, files) if files else {}

        def work(mutant: Mutant) -> dict[str, Any]:
            tree = trees.get()
            try:
                return try_mutant(mutant, tree, seconds)
            finally:
                trees.put(tree)

        futures = {pool.submit(work, mutant): name for name, mutant in left.items()}
        try:
            for future in as_completed(futures):
                name = futures[future]
                result = future.result()
                if result["outcome"] == "survived":
                    result["reason"] = reasons.get(name, "")
                results[name] = result
                write_bytes(file, json.dumps(results, indent=1, sort_keys=True).encode())
                words = f"{len(results)}/{len(mutants)} {result['outcome']:<9}{result['path']}:{result['line']}"
                console.print(words, highlight=False)
        finally:
            pool.shutdown(cancel_futures=True)
    report([results[name] for name in mutants], console)


if __name__ == "__main__":
    main(tyro.cli(Args))
