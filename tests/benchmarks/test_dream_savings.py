"""What dreams save is drawn of the records, failures included."""

import json

import pytest
from matplotlib.axes import Axes


@pytest.fixture
def savings(program):
    return program("benchmarks/dream_savings.py")


def report(frames, success, env_id="MiniGrid-DoorKey-6x6-v0", **config):
    return {
        "env_id": env_id,
        "command": "lssvwm judge",
        "config": {"agent": "policy", "deterministic": False} | config,
        "success": {"value": success},
        "training": {"recorded_frames": frames},
    }


def curve(seed, successes, env_id="MiniGrid-DoorKey-6x6-v0", recurrent=False):
    return {
        "args": {"env_id": env_id, "seed": seed, "recurrent": recurrent},
        "curve": [{"real_steps": steps, "success": {"value": value}} for steps, value in successes.items()],
    }


def test_a_policy_is_left_out_if_another_had_as_much_from_fewer_frames(savings):
    best = report(1000, 0.9)
    dearer_and_better = report(5000, 0.95)
    dearer = report(3000, 0.9)
    elsewhere = report(9000, 0.5, "MiniGrid-MemoryS9-v0")
    found = savings.unbeaten([dearer, elsewhere, dearer_and_better, best])
    assert found == [best, dearer_and_better, elsewhere]


def test_only_policies_that_draw_their_actions_are_compared(savings):
    assert savings.unbeaten([report(1000, 0.9, deterministic=True), report(1000, 0.9, agent="mcts")]) == []


def test_seeds_are_dots_where_they_first_had_as_much_and_arrows_where_they_never_had(savings, monkeypatch):
    dots, arrows = [], []
    plot = Axes.plot
    monkeypatch.setattr(Axes, "plot", lambda axis, *a, **k: dots.append(a) or plot(axis, *a, **k))
    monkeypatch.setattr(Axes, "annotate", lambda axis, text, to, start, **k: arrows.append((start[0], to[0])))
    there = curve(0, {100: 0.5, 200: 0.9, 300: 0.2})
    never = curve(1, {100: 0.5, 400: 0.89})
    other_world = curve(0, {100: 1.0}, "MiniGrid-MemoryS9-v0")
    assert savings.savings_png([report(50, 0.9)], [there, never, other_world]).startswith(b"\x89PNG")
    drawn = {(x, style) for x, _, style in dots if x != []}
    assert drawn == {(50, "C2*"), (200, "o"), (400, "|")}
    ((start, end),) = arrows
    assert start == 400 < end


def test_the_picture_is_made_of_a_folder_of_records(savings, tmp_path):
    records = tmp_path / "records"
    (records / "a").mkdir(parents=True)
    (records / "a" / "report.json").write_text(json.dumps(report(50, 0.9)))
    (records / "model-free-x-0.json").write_text(json.dumps(curve(0, {100: 1.0}, recurrent=True)))
    savings.main(savings.Args(records, tmp_path / "docs"))
    assert (tmp_path / "docs" / "img" / "dream_savings.png").read_bytes().startswith(b"\x89PNG")
