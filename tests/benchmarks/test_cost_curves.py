import json


def test_only_full_attention_pays_for_history(program, tmp_path):
    curves = program("benchmarks/cost_curves.py")
    out = tmp_path / "costs.json"
    curves.main(curves.Args(histories=(2, 20), lengths=(4,), frames=8, size="debug", rounds=1, out=out))
    report = json.loads(out.read_text())
    for name, found in report["generating"].items():
        grows = found["20"]["bytes"] / found["2"]["bytes"]
        assert grows > 2 if name == "full-attention" else grows == 1, name
        assert report["training"][name]["4"] > 0
