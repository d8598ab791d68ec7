import json


def test_a_dream_is_recorded(program, toy_simulator, tmp_path, capsys):
    long_dream = program("benchmarks/long_dream.py")
    toy_simulator.save(tmp_path / "toy", "")
    args = long_dream.Args(
        str(tmp_path / "toy"), 12, 2, 4, threads=1, record=tmp_path / "r.json", picture=tmp_path / "p.png"
    )
    long_dream.main(args)
    report = json.loads(args.record.read_text())
    assert [line["frame"] for line in report["lines"]] == [1, 4, 8, 10, 12]
    assert all(rms > 0 for line in report["lines"] for rms in line["rms"])
    assert args.picture.read_bytes().startswith(b"\x89PNG")
    assert "in the last" in capsys.readouterr().out
