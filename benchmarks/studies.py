"""What studies share: many models, each trained and judged once, with a record of its own."""

import subprocess
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import records_io
from records_io import Record

from lssvwm_env.simulator.simulator import package_versions
from lssvwm_env.utils.provenance import hardware


def check_variants(asked: Collection[str], known: Collection[str]) -> None:
    """Stop at a name that no variant has."""
    if unknown := set(asked) - set(known):
        raise SystemExit(f"--variants {' '.join(sorted(unknown))}: choose from {', '.join(known)}")


def make_missing(
    variants: Collection[str],
    seeds: Collection[int],
    path: Callable[[str, int], Path],
    judged: Callable[[str, int], Record],
) -> None:
    """Write a record for every seed and variant that has none, to its path, as soon as it is judged."""
    for seed in seeds:
        for name in variants:
            if path(name, seed).exists():
                continue
            records_io.write(path(name, seed), judged(name, seed))
            print(f"{path(name, seed)} is written", flush=True)


def made_with() -> dict[str, Any]:
    """By what a record was made."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    return {"hardware": hardware("cpu"), "commit": commit, "versions": package_versions()}
