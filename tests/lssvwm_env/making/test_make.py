"""One command makes a simulator, and goes on with what was cut off."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lssvwm_env.cli import main
from lssvwm_env.datasets.collect import CollectConfig, collect
from lssvwm_env.making import choices
from lssvwm_env.making import make as making
from lssvwm_env.making.choices import Speeds
from lssvwm_env.making.make import MakeConfig, make
from lssvwm_env.simulator.simulator import Simulator

WORLD = "MiniGrid-Empty-5x5-v0"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Speeds at which three minutes are enough for a few steps, and little to judge."""
    speed = Speeds(network=10.0, evaluation=0.1, odometry=2.0, renderer=0.0)
    monkeypatch.setattr(choices, "speeds", lambda *_: speed)
    monkeypatch.setattr(choices, "real_speed", lambda *_: 10.0)
    monkeypatch.setattr(choices, "FRAMES", (600, 700))
    monkeypatch.setattr(choices, "LEAST_STEPS", 3)
    monkeypatch.setattr(making, "JUDGED", 3)
    monkeypatch.setattr(making, "CONTEXT", 6)


def asked(out, **changes):
    return replace(MakeConfig(WORLD, minutes=3, out=out, threads=1, preset="debug"), **changes)


def test_a_world_becomes_a_simulator_with_a_card_and_a_page(tmp_path, capsys):
    out = tmp_path / "made"
    simulator = make(asked(out))
    loaded = Simulator.load(out / "model" / "simulator")
    assert loaded.weights_sha256 == simulator.weights_sha256
    assert loaded.config.env_id == WORLD and loaded.config.horizon == 100
    assert "## Fidelity" in (out / "model" / "simulator" / "CARD.md").read_text()
    ledger = json.loads((out / "make.json").read_text())
    assert ledger["choices"]["frames"] == {
        "value": 600,
        "why": "1 processes make 10 a second, and 10% of the time is for them",
    }
    assert ledger["choices"]["preset"] == {"value": "debug", "why": "as you asked"}
    assert ledger["choices"]["training"]["value"]["steps"] >= 3
    assert set(ledger["spent"]) == {"collect", "train", "compare"}
    page = (out / "report.html").read_text()
    for part in (
        "<h1>MiniGrid-Empty-5x5-v0, simulated</h1>",
        "data:image/gif;base64,",
        "as you asked",
        "tiles seen before",
    ):
        assert part in page
    assert str(tmp_path.parent) not in page.replace(str(out), "")
    said = capsys.readouterr().out
    assert "horizon: 100 (the real environment ends episodes after 100)" in said and "report.html" in said


def test_what_was_cut_off_goes_on_with_the_same_choices(tmp_path, monkeypatch):
    out = tmp_path / "made"
    with monkeypatch.context() as patch:
        patch.setattr(making, "train", lambda config: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            make(asked(out))
    before = json.loads((out / "make.json").read_text())
    assert set(before["spent"]) == {"collect", "train"}
    monkeypatch.setattr(choices, "speeds", lambda *_: pytest.fail("chosen twice"))
    make(asked(out))
    after = json.loads((out / "make.json").read_text())
    assert after["choices"] == before["choices"] and after["spent"]["train"] > before["spent"]["train"]
    again = Simulator.load(out / "model" / "simulator").weights_sha256
    make(asked(out, minutes=50, threads=2))  # neither makes it another one
    assert Simulator.load(out / "model" / "simulator").weights_sha256 == again


def test_episodes_of_ones_own_are_parted_and_judged_by_their_last_tenth(tmp_path):
    data = collect(CollectConfig(WORLD, tmp_path / "mine", 900, policy="uniform", workers=1, episode_length=30))
    make(MakeConfig(dataset=tmp_path / "mine", minutes=3, out=tmp_path / "made", threads=1, preset="debug"))
    report = json.loads((tmp_path / "made" / "compare" / "report.json").read_text())
    count = len(data.episode_starts)
    parts = [making.EpisodeDataset(tmp_path / "made" / name) for name in ("data", "held-out")]
    assert [len(part.episode_starts) for part in parts] == [count - round(0.1 * count), round(0.1 * count)]
    assert [part.spec.split for part in parts] == ["train", "test"] and report["split"] == "test"
    assert not set(parts[0].episode_seed) & set(parts[1].episode_seed)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"env_id": None}, "env_id=None and dataset=None: give one of them"),
        ({"dataset": Path("x")}, "env_id='MiniGrid-Empty-5x5-v0' and dataset=.*: give one of them"),
        ({"minutes": 0.0}, "minutes=0.0 must be more than 0"),
        ({"minutes": float("nan")}, "minutes=nan"),
        ({"steps": 0}, "steps=0 must be at least 1"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        asked(tmp_path, **changes)


def test_too_little_time_gets_a_sentence_with_the_time_that_is_enough(tmp_path):
    with pytest.raises(
        ValueError, match=r"minutes=0.5 is too short: there is time for 1 steps of the preset debug, and 3"
    ):
        make(asked(tmp_path / "made", minutes=0.5))
    make(asked(tmp_path / "made", minutes=3))  # in the same folder


def test_an_unknown_world_leaves_no_folder(tmp_path, monkeypatch):
    monkeypatch.undo()
    with pytest.raises(ValueError, match="Nowhere-v0"):
        make(asked(tmp_path / "made", env_id="Nowhere-v0"))
    assert not (tmp_path / "made").exists()


def test_another_making_in_the_same_folder_is_refused(tmp_path):
    out = tmp_path / "made"
    with pytest.raises(ValueError, match="too short"):
        make(asked(out, minutes=0.2))
    with pytest.raises(ValueError, match=r"holds another making:\n  seed: 0 there, 1 asked for\n.*new folder"):
        make(asked(out, seed=1))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="full holds something else; make it in a new folder"):
        make(asked(tmp_path / "full"))
    assert (tmp_path / "full" / "mine.txt").read_text() == "mine"


def test_it_is_made_where_its_name_says():
    assert MakeConfig("ale_py:ALE/Pong-v5").folder == Path("runs/ALE-Pong-v5")
    assert MakeConfig(dataset=Path("data/my robot")).folder == Path("runs/my-robot")


def test_the_command_says_what_is_wrong(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["make", "--minutes", "3", "--out", str(tmp_path / "made")])
    assert "env_id=None and dataset=None: give one of them" in capsys.readouterr().err
