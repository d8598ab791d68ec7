"""Tables, pictures and words of results.md are made of records."""

import numpy as np
import pytest

ESTIMATE = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 7}


@pytest.fixture
def results(program):
    return program("benchmarks/results.py")


def task(objects=0.5, psnr=20.0, copied=0.1, ages=()):
    dream = {"psnr_seen": ESTIMATE | {"value": psnr}, "objects_seen": ESTIMATE | {"value": objects}}
    copy = {"psnr_seen": ESTIMATE | {"value": 13.0}, "objects_seen": ESTIMATE | {"value": copied}}
    return {
        "dream": dream | dict.fromkeys(ages, ESTIMATE),
        "copy": copy | dict.fromkeys(ages, ESTIMATE | {"value": None}),
        "per_frame": {"psnr_seen": list(np.linspace(50, 30, 60)), "objects_seen": [None] * 60},
    }


def record(results, **changes):
    found = task(ages=results.AGES, **changes)
    worlds = {"w": {"out_and_back": {"50": task(ages=results.AGES), "400": found}, "revisit": found}}
    return {"about": "it", "suite": {"worlds": worlds, "settings": {"sequences": 8}}}


def test_a_row_has_the_mean_over_seeds_and_each_or_the_interval_of_one(results):
    found = {"ours": [record(results, objects=0.4), record(results, objects=0.6)], "window": [record(results)]}
    text = results.study_table(found, ["ours", "window"], {"ours": 2.0, "window": 3.0})
    ours, window, copied = text.splitlines()[2:]
    assert ours.startswith("| `ours`: it | 20.0 (20.0, 20.0)") and "| 50.0 (40.0, 60.0) |" in ours
    assert "| 50.0 [40.0, 60.0] |" in window
    assert ours.endswith("| 1.00 |") and window.endswith("| 1.50 |")
    assert copied.startswith("| the last real frame, copied | 13.0 [0.4, 0.6] |") and "| - | - | - |" in copied


def test_an_interval_without_a_width_becomes_exact_over_sequences(results):
    of_one = record(results)
    of_one["suite"]["worlds"]["w"]["revisit"]["dream"]["objects_seen"] = {
        "value": 0.0,
        "low": 0.0,
        "high": 0.0,
        "n": 90,
    }
    assert results.cell([of_one], "revisit", "dream", "objects_seen") == "0.0 [0.0, 36.9]"


def test_a_model_below_the_copy_has_not_begun_to_learn(results):
    found = {
        "ours": [record(results, objects=0.5)],
        "behind": [record(results, objects=0.05, psnr=15.0), record(results, objects=0.09, psnr=17.0)],
        "one-seed-is-ahead": [record(results, objects=0.05), record(results, objects=0.2)],
    }
    assert results.not_begun(found) == {"behind": pytest.approx(0.07)}
    text = results.not_begun_section(found)
    assert "gets 10.0 % of the objects right" in text and "`behind` 7.0 %" in text and "`ours`" not in text
    assert "at most 16.0 dB, that of the copy 13.0 dB" in text
    del found["behind"]
    assert "not begun" not in results.not_begun_section(found)


def test_seeds_of_one_model_are_compared_with_each_other(results):
    found = {
        "ours": [record(results, objects=0.4, psnr=20.0), record(results, objects=0.6, psnr=21.0)],
        "other": [record(results, objects=0.9, psnr=30.0)],
    }
    assert results.seed_spread(found, "objects_seen") == pytest.approx(0.2)
    assert results.seed_spread(found, "psnr_seen") == pytest.approx(1.0)


def test_the_records_say_that_full_attention_and_mamba2_have_not_begun_to_learn(results):
    found = results.read(results.Args().records / "study")
    assert {"full-attention", "mamba2", "mamba2-convolution"} <= results.not_begun(found[300]).keys()
    assert set(results.not_begun(found[600])) == {"full-attention"}


def test_pictures_are_drawn(results):
    found = {"ours": [record(results), record(results)], "window": [record(results)]}
    assert results.distance_png(found, 64).startswith(b"\x89PNG")
    assert results.study_png(found).startswith(b"\x89PNG")


def test_the_quarters_of_a_long_dream_are_told_apart(results):
    same = {"illegal": 0.5, "unseen": 0.25, "objects": 2, "kinds": 9}
    lines = [{"rms": [float(i)]} | same for i in range(8)]
    rows = results.long_dream_section({"lines": lines}).splitlines()[2:]
    assert [row.split(" | ")[:2] for row in rows] == [
        ["| first quarter", "1.00"],
        ["| second quarter", "3.00"],
        ["| third quarter", "5.00"],
        ["| last quarter", "7.00"],
    ]


def test_without_records_only_words_are_left(results, tmp_path):
    results.main(results.Args(tmp_path / "none", tmp_path / "docs"))
    text = (tmp_path / "docs" / "results.md").read_text()
    assert "## What is measured" in text and "{" not in text


def test_records_are_told_apart_by_how_long_they_were_trained(results, program, tmp_path):
    records_io = program("benchmarks/records_io.py")
    for name in ("ours-300-0", "ours-300-1", "ours-600-0", "paper-blocks-300-0"):
        records_io.write(tmp_path / f"{name}.json.gz", {"variant": name})
    found = results.read(tmp_path)
    assert {steps: list(variants) for steps, variants in found.items()} == {
        300: ["ours", "paper-blocks"],
        600: ["ours"],
    }
    assert len(found[300]["ours"]) == 2
