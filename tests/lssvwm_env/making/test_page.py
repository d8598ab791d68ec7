"""The page says what there is to say, and nothing that a stranger wrote does anything on it."""

from types import SimpleNamespace

import pytest

from lssvwm_env.making.page import in_short, next_steps, page
from lssvwm_env.simulator.folder import CURVES


def estimate(value):
    return {"value": value, "low": value, "high": value, "n": 3}


def report(**dream):
    dream = {name: estimate(value) for name, value in dream.items()}
    still = {"psnr": estimate(15.0)}
    return {
        "next_frame": {}, "dream": dream, "copy_dream": still, "notes": ["<b>odd</b>"], "sequences": 3, "horizon": 64,
        "context": 12,
    }  # fmt: skip


def ledger(preset="tiny", **others):
    choices = {"preset": {"value": preset, "why": "as you asked"}} | others
    return SimpleNamespace(choices=choices, spent={"collect": 60.0, "train": 120.0})


def test_the_point_comes_first():
    assert in_short(report(tiles_seen=0.987, objects_seen=0.5, psnr=30.0)) == (
        "98.7% of the tiles that were seen before are right in dreams. So are 50.0% of the objects."
    )
    assert in_short(report(psnr=24.04)) == ("Dreams have a PSNR of 24.0 dB; the last real frame, shown on, has 15.0.")
    assert in_short(report(psnr=None)) == ""


@pytest.mark.parametrize(
    ("dream", "preset", "words"),
    [
        ({"reward_f1": 0.94, "tiles_seen": 0.99}, "tiny", ["Rewards are not foretold well"]),
        ({"reward_f1": 0.95, "tiles_seen": 0.98}, "tiny", []),
        ({"reward_f1": None}, "tiny", ["No reward came up"]),
        ({"tiles_seen": 0.97}, "micro", ["No reward came up", "not kept well", "--preset tiny"]),
    ],
)
def test_hints_follow_from_what_is_not_good_yet(dream, preset, words):
    hints = next_steps(report(**dream), ledger(preset))
    assert len(hints) == len(words) + 1 and "lssvwm imagine" in hints[-1]
    assert all(word in hint for word, hint in zip(words, hints, strict=False))


def test_what_strangers_wrote_does_nothing(tmp_path, toy_simulator):
    for folder, name in (("compare", "dream_vs_real.gif"), ("compare", "fidelity.png"), ("model/simulator", CURVES)):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / name).write_bytes(b"picture")
    script = "<script>alert(1)</script>"
    evil = SimpleNamespace(config=SimpleNamespace(env_id=script), model=toy_simulator.model)
    chosen = ledger(horizon={"value": script, "why": script})
    text = page(tmp_path, evil, report(psnr=20.0), chosen)
    assert "<script>" not in text and "<b>odd" not in text and "&lt;script&gt;" in text
    millions = sum(p.numel() for p in toy_simulator.model.parameters()) / 1e6
    assert f"A model of {millions:.2f} million parameters" in text
    assert text.count("cGljdHVyZQ==") == 3 and "in 3 minutes" in text
