"""Tables and pictures of agents are made of reports."""

import json

import pytest


@pytest.fixture
def made(program):
    return program("benchmarks/agent_results.py")


def estimate(value):
    return {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 200}


def report(agent, success, **changes):
    config = {"agent": agent, "policy": None, "curiosity": 0.5, "horizon": 4, "imagined_steps": 64, "seconds": None}
    config |= {"deterministic": False, "simulator": "LSSVWM/MiniGrid-DoorKey-6x6-v0"}
    return {
        "env_id": "MiniGrid-DoorKey-6x6-v0",
        "config": config,
        "command": f"lssvwm judge --agent {agent}",
        "success": estimate(success),
        "steps": estimate(12),
        "decision_seconds": {"mean": 0.2, "p95": 0.3, "most": 0.4},
    } | changes


def test_a_section_for_each_kind_of_record(made, tmp_path, monkeypatch):
    training = {"recorded_frames": 40000, "imagined_steps": 256000, "minutes": 30.2, "command": "lssvwm imagine"}
    reports = {
        "a": report("policy", 0.9, training=training, rank_correlation=0.5),
        "b": report("uniform", 0.2),
        "c": report("mcts", 0.7, rank_correlation=None),
    }
    for name, content in reports.items():
        (tmp_path / "records" / name).mkdir(parents=True)
        (tmp_path / "records" / name / "report.json").write_text(json.dumps(content))
    curve = [{"real_steps": n, "minutes": 1, "success": estimate(n / 1000)} for n in (0, 500, 400)]
    args = {"env_id": "MiniGrid-DoorKey-6x6-v0", "recurrent": False, "seed": 0}
    (tmp_path / "records" / "model-free-x-0.json").write_text(json.dumps({"args": args, "curve": curve}))
    better = [{"real_steps": n, "minutes": 1, "success": estimate(n / 320_000)} for n in (0, 160_000, 320_000)]
    (tmp_path / "records" / "model-free-x-1.json").write_text(
        json.dumps({"args": args | {"recurrent": True, "seed": 1}, "curve": better})
    )
    asked = {"deterministic": False}
    perfect = {"simulator": "LSSVWM/MiniGrid-DoorKey-6x6-v0", "args": asked, "rank_correlation": 0.75}
    (tmp_path / "records" / "perfect-promises-x.json").write_text(json.dumps(perfect))
    (tmp_path / "records" / "a" / "promises.png").write_bytes(b"picture")
    (tmp_path / "records" / "a" / "overpromised-7.gif").write_bytes(b"film")
    round_of = {"round": 0, "real_frames": 500, "imagined_steps": 9000, "judged": reports["a"]}
    round_of["seconds"] = {"collect": 60, "model": 120, "agent": 240}
    (tmp_path / "records" / "dyna-x").mkdir()
    (tmp_path / "records" / "dyna-x" / "round-00.json").write_text(json.dumps(round_of))
    made.main(made.Args(tmp_path / "records", tmp_path / "docs"))
    text = (tmp_path / "docs" / "agents.md").read_text()
    tables = (tmp_path / "docs" / "tables" / "agents.md").read_text()
    row = "| DoorKey-6x6 | drawn | 90.0 [80.0, 100.0] | 20.0 [10.0, 30.0] | 12.0 | 0.50 | 0.75 | 40,000 |"
    assert f"{row} 256,000 | 30 |" in tables
    assert "| DoorKey-6x6 | 40,000 | 90.0 [80.0, 100.0] | 20.0 [10.0, 30.0] | 12.0 | 30 |" in text
    assert "| DoorKey-6x6 | MCTS | nothing | 0.5 | 4 | 64 steps | 0.20 (0.40) | 70.0 [60.0, 80.0] n=200 | - |" in text
    assert "| DoorKey-6x6 | 90.0 | 40,000 | PPO | 0 | more than 400 | less than 10000 |" in tables
    assert "| DoorKey-6x6 | 90.0 | 40,000 | PPO with an LSTM | 1 | 320,000 | 12 |" in tables
    assert "50 at 500" in tables and "| x | 0 | 500 | 9,000 | 90.0 [80.0, 100.0] | 12.0 | 1 + 2 + 4 |" in tables
    for name in ("policies", "rounds", "real_frames"):
        assert f"](img/{name}.png)" in text
        assert (tmp_path / "docs" / "img" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    films = (tmp_path / "docs" / "tables" / "films.md").read_text()
    for name in ("promises.png", "overpromised-7.gif"):
        assert (tmp_path / "docs" / "img" / f"a-{name}").is_file() and f"](../img/a-{name})" in films
        assert not (tmp_path / "records" / "a" / name).exists()
    made.main(made.Args(tmp_path / "records", tmp_path / "docs"))  # pictures that were moved before stay
    assert (tmp_path / "docs" / "tables" / "films.md").read_text() == films


def test_the_policy_of_the_fewest_frames_of_each_world_is_found(made):
    def trained(frames, **changes):
        return report("policy", 0.9, training={"recorded_frames": frames}, **changes)

    few, many, elsewhere = trained(100), trained(200), trained(300, env_id="MiniGrid-MemoryS9-v0")
    assert list(made.fewest([many, elsewhere, few, report("uniform", 0.1)]).values()) == [few, elsewhere]


def test_a_success_is_first_reached_at_an_evaluation(made):
    curve = [{"real_steps": n, "success": {"value": s}} for n, s in ((0, 0.1), (10, 0.6), (20, 0.4), (30, 0.7))]
    assert made.frames_until({"curve": curve}, 0.6) == 10
    assert made.frames_until({"curve": curve}, 0.65) == 30
    assert made.frames_until({"curve": curve}, 0.8) is None


def test_without_records_only_words_are_left(made, tmp_path):
    made.main(made.Args(tmp_path / "none", tmp_path / "docs"))
    assert "# Agents" in (tmp_path / "docs" / "agents.md").read_text()
