"""Write the table of bundled simulators into README.md: how large they are, and what policies from their dreams win.

    python benchmarks/model_zoo.py

Nothing is measured here: parameters and state come from the simulators, real frames from their cards, success from the
records of `lssvwm judge`.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import tyro
from agent_results import learned, reports_in
from pages import ROOT, show, table

from lssvwm_env import SIMULATORS, Simulator
from lssvwm_env.simulator.folder import CARD
from lssvwm_models.utils.files import write_bytes

SITE: Final = "https://lssvwm-env.github.io/lssvwm-env"
BEGIN: Final = "<!-- --8<-- [start:zoo] -->\n"  # the model zoo of the site shows what is between these, too
END: Final = "<!-- --8<-- [end:zoo] -->"


@dataclass
class Args:
    """Where to read and write.

    Attributes:
        records: Folder of reports, as `lssvwm judge` writes them.
        readme: The file with the table.
    """

    records: Path = ROOT / "benchmarks" / "records" / "agents"
    readme: Path = ROOT / "README.md"


def zoo(records: Path) -> str:
    """The table."""
    reports = reports_in(records)
    rows = []
    for env_id, registered in SIMULATORS.items():
        simulator = Simulator.load(env_id)
        name = registered.folder.name
        card = (registered.folder / CARD).read_text()
        counts = re.findall(r"([\d,]+) frames in [\d,]+ episodes", card)
        frames = sum(int(count.replace(",", "")) for count in counts)
        own = [r for r in reports if r["config"]["simulator"] == env_id]
        policy = [r["success"] for r in own if learned(r)]
        luck = [r["success"] for r in own if r["config"]["agent"] == "uniform"]
        rows.append([
            f"`{env_id}`",
            f"{sum(p.numel() for p in simulator.model.parameters()) / 1e6:.2f} M",
            f"{simulator.model.initial_state(1).nbytes:,}",
            f"{frames:,}",
            show(policy[0]) if policy else "-",
            show(luck[0]) if luck else "-",
            f"[card]({SITE}/models/{name}/)",
        ])  # fmt: skip
    header = ["id", "parameters", "bytes of state", "real frames", "success, %", "at random, %", "trained how"]
    return table(header, rows)


def main(args: Args) -> None:
    """Put the table between its marks."""
    before, rest = args.readme.read_text().split(BEGIN)
    after = rest.split(END)[1]
    write_bytes(args.readme, f"{before}{BEGIN}{zoo(args.records)}\n{END}{after}".encode())
    print(f"{args.readme} is written")


if __name__ == "__main__":
    main(tyro.cli(Args))
