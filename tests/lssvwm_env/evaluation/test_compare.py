"""`compare` writes pictures and numbers of a simulator, on recorded or on fresh episodes."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from lssvwm_env.datasets.collect import CollectConfig, collect
from lssvwm_env.evaluation.compare import CompareConfig, _percent, card_section, compare, fidelity_png
from lssvwm_env.real import make_real
from lssvwm_env.simulator.simulator import Simulator, SimulatorConfig, SimulatorError, Starts
from lssvwm_models.data.splits import Split
from lssvwm_models.memory.geometry import EgoView
from lssvwm_models.model.actions import ActionSpec
from lssvwm_models.model.config import preset
from lssvwm_models.model.world_model import WorldModel
from tests.lssvwm_env.evaluation.seeing import untrained

ENV_ID = "MiniGrid-ObjectRooms-v0"


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    view = EgoView(8, 6, 3, ((0, 0, 0), (1, 0, 0), (0, 0, 1), (0, 0, 3)))
    model = WorldModel(preset("debug", ActionSpec("discrete", 7), view=view))
    frame, _ = make_real(ENV_ID).reset(seed=0)
    config = SimulatorConfig(
        env_id=ENV_ID,
        model=model.config,
        observation_space={"type": "Box", "low": 0, "high": 255, "shape": [64, 64, 3], "dtype": "uint8"},
        action_space={"type": "Discrete", "n": 7},
        trained_length=8,
        horizon=100,
        denoising_steps=2,
        data_hash="none",
    )
    folder = tmp_path_factory.mktemp("simulators") / "rooms-debug"
    Simulator(model, config, Starts(frame[None, None], np.zeros((1, 1), np.int64))).save(folder, "untrained")
    return folder


def test_everything_is_written(simulator: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = CompareConfig(str(simulator), tmp_path / "fresh", sequences=2, context=6, horizon=5)
    report = compare(config)
    assert sorted(p.name for p in config.out.iterdir()) == [
        "dream_vs_real.gif",
        "episodes",
        "fidelity.png",
        "report.json",
    ]
    assert json.loads((config.out / "report.json").read_text()) == json.loads(json.dumps(report))
    assert report["denoising_steps"] == 2 and report["split"] == "test" and report["hardware"]["cpu_count"]
    animation = iio.imread(config.out / "dream_vs_real.gif")
    assert animation.shape == (11, 2 * (64 * 3 + 6) + 18, 2 * (64 * 3 + 6), 3)
    assert iio.imread(config.out / "fidelity.png").ndim == 3
    printed = capsys.readouterr().out
    assert "objects seen before" in printed and "report.json" in printed.replace("\n", "")

    recorded = CompareConfig(
        str(simulator), tmp_path / "recorded", config.out / "episodes", sequences=2, context=6, horizon=5
    )
    again = compare(recorded)
    assert again["dream"] == report["dream"] and again["next_frame"] == report["next_frame"]


@pytest.mark.parametrize(
    ("split", "note"),
    [
        ("train", "judged on layouts of the training split: this measures fit, not fidelity"),
        ("validation", "judged on layouts of the validation split: choose by it"),
        ("test", None),
    ],
)
def test_the_notes_say_what_the_episodes_are(
    simulator: Path, tmp_path: Path, split: Split, note: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    episodes = collect(CollectConfig(ENV_ID, tmp_path / split, 24, split, workers=1, episode_length=12))
    notes = compare(CompareConfig(str(simulator), tmp_path, episodes.folder, 1, context=4, horizon=2))["notes"]
    assert [line for line in notes if "split" in line] == [line for line in notes if note and line.startswith(note)]
    assert "the real episodes are of the wander policy (wander is a script that knows the map)" in notes
    assert "a script that knows the map" in " ".join(capsys.readouterr().out.split())


def test_the_gif_shows_the_real_frames_above(simulator: Path, tmp_path: Path) -> None:
    config = CompareConfig(str(simulator), tmp_path, sequences=1, context=4, horizon=2)
    compare(config)
    above, below = iio.imread(tmp_path / "dream_vs_real.gif")[:, 18:].reshape(6, 2, 198, 198, 3).swapaxes(0, 1)
    same = [np.array_equal(a[3:-3, 3:-3], b[3:-3, 3:-3]) for a, b in zip(above, below, strict=True)]
    assert same == [True] * 4 + [False] * 2


def test_data_of_another_environment_is_refused(simulator: Path, tmp_path: Path) -> None:
    config = CompareConfig(str(simulator), tmp_path, sequences=1, context=2, horizon=2)
    compare(config)
    spec = tmp_path / "episodes" / "dataset.json"
    spec.write_text(spec.read_text().replace(ENV_ID, "Other-v0"))
    with pytest.raises(ValueError, match=f"recorded in Other-v0.*simulates {ENV_ID}"):
        compare(replace(config, dataset=tmp_path / "episodes"))


def test_data_of_another_variant_is_refused(simulator: Path, tmp_path: Path) -> None:
    config = CompareConfig(str(simulator), tmp_path, sequences=1, context=2, horizon=2)
    compare(config)
    spec = tmp_path / "episodes" / "dataset.json"
    spec.write_text(json.dumps(json.loads(spec.read_text()) | {"env_kwargs": {"size": 17}}))
    with pytest.raises(ValueError, match="recorded with {'size': 17}"):
        compare(replace(config, dataset=tmp_path / "episodes"))


def test_no_module_of_a_strangers_file_is_imported(toy_simulator: Simulator, tmp_path: Path) -> None:
    config = replace(toy_simulator.config, env_id="no_such_module:World")
    Simulator(toy_simulator.model, config, toy_simulator.starts).save(tmp_path / "toy", "")
    asked = CompareConfig(str(tmp_path / "toy"), tmp_path / "out")
    with pytest.raises(ValueError, match="If you trust it, say so: --env-id 'no_such_module:World'"):
        compare(asked)
    with pytest.raises(ValueError, match="No module named 'no_such_module'"):
        compare(replace(asked, env_id="no_such_module:World"))


HOSTILE = "<script>x</script> [red]|`a`|[/red] $x^{$ \x1b[2J\n# h"


def test_what_strangers_wrote_does_nothing_on_cards_and_pictures(tmp_path: Path) -> None:
    psnr = {"value": 20.0, "low": 19.0, "high": 21.0, "n": 3}
    kinds = ("next_frame", "dream", "dream_last_frame", "copy_dream")
    numbers = {"sequences": 1, "split": "test", "seed": 0, "horizon": 2, "context": 1, "denoising_steps": 1}
    report = numbers | {kind: {"psnr": psnr} for kind in kinds}
    report |= {"env_id": HOSTILE, "notes": [HOSTILE], "seconds": 1, "hardware": {"torch_threads": 1}}
    card = card_section(report, CompareConfig("x", tmp_path))
    note = r"&lt;script&gt;x&lt;/script&gt; \[red\]\|\`a\`\|\[/red\] \$x^{\$ \\x1b\[2J \# h"
    assert card.splitlines()[-1] == f"Note: {note}."
    picture = fidelity_png(report | {"dream_per_step": {"psnr": [20.0, 19.0]}}, HOSTILE)
    assert iio.imread(picture).ndim == 3


def test_who_acts_in_the_collected_episodes_can_be_said(simulator: Path, tmp_path: Path) -> None:
    config = CompareConfig(str(simulator), tmp_path, sequences=1, context=4, horizon=2, policy="uniform")
    assert "the real episodes are of the uniform policy" in compare(config)["notes"]
    with pytest.raises(ValueError, match=r"policy='uniform' acts where .*, but dataset='x' has some; leave one"):
        CompareConfig("x", tmp_path, dataset=Path("x"), policy="uniform")


def test_bad_configs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="horizon=0 must be at least 1"):
        CompareConfig("x", tmp_path, horizon=0)
    with pytest.raises(SimulatorError):
        compare(CompareConfig("no-such-simulator", tmp_path))


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (1.0, "100.0"),
        (0.999999, "99.99"),
        (0.9996, "99.96"),
        (0.9994, "99.9"),
        (0.0, "0.0"),
        (1e-6, "0.01"),
        (4e-4, "0.04"),
        (0.5, "50.0"),
    ],
)
def test_nearly_all_is_not_written_as_all(share: float, text: str) -> None:
    assert _percent(share) == text


def test_in_first_person_it_shows_poses_given_beside_poses_reckoned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = untrained(tmp_path, denoising_steps=1)
    asked = CompareConfig(
        str(tmp_path / "simulator"), tmp_path / "out", dataset.folder, 2, context=4, horizon=3, card=True
    )
    compare(asked)
    card = (tmp_path / "simulator" / "CARD.md").read_text()
    header = next(line for line in card.splitlines() if line.startswith("| | next frame"))
    assert header == "| | next frame | dream | its end | poses given | still | nearest | mean |"
    assert "Poses given: the dream moved by the recorded poses." in card
    off = next(line for line in card.splitlines() if line.startswith("| pose off by, cells"))
    assert re.search(r"\| \d+\.\d\d \[\d+\.\d\d, \d+\.\d\d\] n=6 \| \d+\.\d\d \| - \|", off)
    assert any(line.startswith("| walls seen before") for line in card.splitlines())  # by what the cells really hold
    likeness = next(line for line in card.splitlines() if line.startswith("| SSIM"))
    assert re.search(r"\| - \| 0\.\d{3} \[", likeness) and "%" not in likeness
    assert iio.imread(tmp_path / "out" / "fidelity.png").ndim == 3
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80
