import numpy as np
import pytest


@pytest.fixture
def results(program):
    return program("benchmarks/first_person_results.py")


def estimate(value):
    return {"value": value, "low": None if value is None else value - 1, "high": value and value + 1, "n": 8}


def dream(psnr, **more):
    names = {"psnr": psnr, "ssim": 0.9} | more
    return {name: estimate(value) for name, value in names.items()}


def report(**more):
    steps = np.linspace(30, 20, 50).tolist()
    return {"given_dream": dream(25.0, psnr_revisited=28.0, psnr_new=20.0, psnr_age_9_32=27.0, psnr_age_33_128=None),
            "given_dream_per_step": {"psnr": steps}, "nearest_dream": dream(19.0, psnr_revisited=24.0, psnr_new=16.0),
            "nearest_dream_per_step": {"psnr": steps}, "sequences": 8} | more  # fmt: skip


def record(variant, seed, psnr, state=2_000_000):
    retrieval = {"given_dream": dream(psnr), "given_dream_per_step": {"psnr": [psnr, psnr - 2.0]}, "sequences": 8}
    return {"variant": variant, "about": "a memory", "world": "maze", "env_id": "Maze-v0", "seed": seed,
            "training": {"steps": 400, "frames_per_step": 128, "threads": 1}, "hardware": "a CPU",
            "render_steps": 3000 if variant == "ours" else 0, "state_bytes": state,
            "answers": {"retrieval": retrieval, "reasoning": report(), "96 after 192": report()}}  # fmt: skip


def test_a_row_per_task_and_dream_and_no_number_where_nothing_was_counted(results):
    text = results.recall_table({"reasoning": report(), "retrieval": {"given_dream": dream(31.0)}})
    header, _, *rows = (line.strip("| ").split(" | ") for line in text.splitlines())
    assert header[4:] == ["seen 9-32 ago", "seen 33-128 ago", "seen 129-512 ago", "seen 513+ ago", "SSIM"]
    assert rows[0][:4] == [
        "reasoning: dream, poses given",
        "25.0 [24.0, 26.0]",
        "28.0 [27.0, 29.0]",
        "20.0 [19.0, 21.0]",
    ]
    assert rows[0][4:] == ["27.0", "-", "-", "-", "0.900"]
    assert [row[0] for row in rows[1:]] == ["reasoning: nearest pose copied", "retrieval: dream, poses given"]
    assert rows[2][1:4] == ["31.0 [30.0, 32.0]", "-", "-"]


def test_the_study_has_means_over_seeds_and_a_control(results):
    study = {"ours": [record("ours", 0, 30.0), record("ours", 1, 31.0)], "mamba2": [record("mamba2", 0, 20.0, 5e4)]}
    rows = [line.strip("| ").split(" | ") for line in results.study_table(study).splitlines()[2:]]
    assert rows[0][:3] == ["`ours`: a memory", "30.5 (30.0, 31.0)", "25.0 (25.0, 25.0)"]
    assert rows[1] == ["`mamba2`: a memory", "20.0", "25.0", "28.0", "20.0", "28.0", "0.05"]
    assert rows[2][:4] == ["the frame from the nearest pose, copied", "-", "19.0", "24.0"]
    made = results.made_of({"mamba2": study["mamba2"], "ours": study["ours"]})
    assert "400 steps of 128 frames each on Maze-v0" in made and "3,000 steps" in made and "8 episodes" in made


def test_parts_and_pictures_are_made_of_the_records_that_there_are(results, program, tmp_path):
    records_io = program("benchmarks/records_io.py")
    assert results.first_person_parts(tmp_path) == ({}, {})
    records_io.write(tmp_path / "MemoryMaze-9x9" / "reasoning.json.gz", report())
    for variant in ("ours", "no-map"):
        records_io.write(tmp_path / f"maze-{variant}-400-0.json.gz", record(variant, 0, 30.0))
    parts, files = results.first_person_parts(tmp_path)
    assert list(results.read(tmp_path)["maze"]) == ["ours", "no-map"]
    assert set(parts) == {"MemoryMaze-9x9-recall", "maze-study", "maze-study-made"}
    assert set(files) == {"img/recall_memorymaze_9x9.png", "img/study_maze.png"}
    assert all(picture.startswith(b"\x89PNG") for picture in files.values())
