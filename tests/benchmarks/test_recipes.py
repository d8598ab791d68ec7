"""The recipes hold the commands that made what is bundled and published."""

import gzip
import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*.sh"))
AGENTS = ROOT / "benchmarks" / "records" / "agents"


def command(line):
    """A program with its options in any order; where it wrote to does not matter."""
    program, *options = re.split(r" (?=--)", " ".join(shlex.split(line)))
    return program, frozenset(option for option in options if not option.startswith("--out "))


def commands_of_recipes():
    text = "\n".join(path.read_text() for path in RECIPES).replace("\\\n", " ")
    return {command(line) for line in text.splitlines() if line.startswith(("lssvwm ", "python "))}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_a_recipe_is_a_script_that_stops_at_errors_and_says_what_it_is(path):
    subprocess.run(["bash", "-n", str(path)], check=True)
    lines = path.read_text().splitlines()
    assert lines[0] == "#!/usr/bin/env bash" and lines[1].startswith("# ")
    assert "set -euo pipefail" in lines
    assert path.stat().st_mode & 0o111


def test_what_made_a_record_of_an_agent_is_in_a_recipe():
    kept = commands_of_recipes()
    for path in AGENTS.glob("*/report.json"):
        report = json.loads(path.read_text())
        made = [report["command"], *([report["training"]["command"]] if "training" in report else [])]
        for line in made:
            assert command(line) in kept, (path, line)


def test_what_made_a_bundled_simulator_is_in_a_recipe():
    kept = commands_of_recipes()
    cards = sorted(ROOT.glob("lssvwm_env/bundled/*/CARD.md"))
    assert cards
    for path in cards:
        training = path.read_text().split("## Training")[1].split("## ")[0]
        for line in re.findall(r"`(lssvwm (?:collect|train|dyna) [^`]+)`", training):
            if "/round-" not in line or "s13-heads" in line:  # a round of a loop is made by the loop
                assert command(line) in kept, (path, line)


def test_what_made_a_curve_without_a_model_is_in_a_recipe():
    kept = commands_of_recipes()
    for path in AGENTS.glob("model-free-*.json"):
        args = json.loads(path.read_text())["args"]
        line = (
            f"python benchmarks/model_free.py --env-id {args['env_id']} --steps {args['steps']} --seed {args['seed']}"
        )
        line += " --recurrent" if args["recurrent"] else ""
        line += f" --eval-every {args['eval_every']}" if args["eval_every"] != 20_480 else ""
        assert command(line) in kept, (path, line)


def test_every_variant_of_the_study_with_a_record_is_in_its_recipe():
    text = (ROOT / "recipes" / "memory_study.sh").read_text().replace("\\\n", " ")
    asked = set()
    for line in re.findall(r"(?m)^python benchmarks/memory_study.py .*", text):
        words = shlex.split(line)
        steps = words[words.index("--steps") + 1] if "--steps" in words else "300"
        seeds = ("0", "1") if "--seeds" in words else ("0",)
        names = words[words.index("--variants") + 1 :]
        asked |= {(name, steps, seed) for name in names for seed in seeds}
    records = (ROOT / "benchmarks" / "records" / "study").glob("*.json.gz")
    assert {tuple(path.name.removesuffix(".json.gz").rsplit("-", 2)) for path in records} == asked


def test_what_asked_a_bundled_simulator_for_its_memory_is_in_a_recipe():
    kept = commands_of_recipes()
    for path in (ROOT / "benchmarks" / "records").glob("*/memory.json.gz"):
        config = json.loads(gzip.decompress(path.read_bytes()))["config"]
        of_it = [options for program, options in kept if program == "lssvwm eval memory"]
        assert any(f"--simulator {config['simulator']}" in options for options in of_it), path
