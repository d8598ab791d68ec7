import json
from dataclasses import replace
from pathlib import Path

import pytest

from lssvwm_env.datasets.collect import CollectConfig, collect
from lssvwm_models.model.config import NetworkConfig
from lssvwm_models.model.world_model import WorldModel
from lssvwm_models.training.config import TrainingConfig
from lssvwm_models.training.objective import ObjectiveConfig


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    out = tmp_path_factory.mktemp("study") / "data"
    return collect(
        CollectConfig("MiniGrid-ObjectRooms-v0", out, frames=200, episode_length=100, workers=1, shard_frames=100)
    )


def test_models_that_are_compared_have_the_same_size(program, dataset):
    study = program("benchmarks/memory_study.py")
    sizes = {}
    for name, variant in study.VARIANTS.items():
        _, config = study.configs(variant, 0, study.Args(), dataset)
        model = WorldModel(replace(config, latent_dim=8))
        sizes[name] = sum(parameter.numel() for parameter in model.network.parameters())
    ratios = {name: size / sizes["ours"] for name, size in sizes.items()}
    assert all(0.93 < ratio < 1.07 for ratio in ratios.values()), ratios


def test_every_variant_differs_from_ours_and_sees_as_many_frames(program, dataset):
    study = program("benchmarks/memory_study.py")
    args = study.Args()
    ours = study.configs(study.VARIANTS["ours"], 0, args, dataset)
    for name, variant in study.VARIANTS.items():
        training, model = study.configs(variant, 0, args, dataset)
        assert name == "ours" or (training, model) != ours, name
        if not name.endswith("longer"):
            assert training.steps * training.frames_per_step == args.steps * 64, name


def test_what_the_study_ended_with_is_the_default(program, dataset):
    study = program("benchmarks/memory_study.py")
    training, model = study.configs(study.VARIANTS["winner"], 0, study.Args(), dataset)
    assert (training.objective, training.lengths) == (ObjectiveConfig(), TrainingConfig(Path()).lengths)
    assert model.network == replace(NetworkConfig(), **study.WIDTHS)


def test_what_a_training_step_takes(program, dataset, tmp_path, monkeypatch, capsys):
    costs = program("benchmarks/study_costs.py")
    monkeypatch.setattr(costs, "VARIANTS", {name: costs.VARIANTS[name] for name in ("ours", "diffusion-forcing")})
    costs.main(costs.CostArgs(dataset.folder, rounds=1, out=tmp_path / "costs.json"))
    seconds = json.loads((tmp_path / "costs.json").read_text())["seconds"]
    assert list(seconds) == ["ours", "diffusion-forcing"] and all(s > 0 for s in seconds.values())
    assert "diffusion-forcing" in capsys.readouterr().out


def test_a_record_is_made_once(program, dataset, tmp_path, monkeypatch, capsys):
    study = program("benchmarks/memory_study.py")
    monkeypatch.setattr(study, "RECORDS", tmp_path)
    monkeypatch.setattr(study, "record_suite", lambda settings: None)
    made = []
    monkeypatch.setattr(study, "judged", lambda name, seed, *rest: made.append((name, seed)) or {"variant": name})
    args = study.Args(variants=("ours", "window"), seeds=(0, 1), dataset=dataset.folder, steps=9)
    study.main(args)
    study.main(args)
    assert made == [("ours", 0), ("window", 0), ("ours", 1), ("window", 1)]
    assert {path.name for path in tmp_path.iterdir()} == {f"{n}-9-{s}.json.gz" for n, s in made}


def test_an_unknown_variant_is_named(program):
    study = program("benchmarks/memory_study.py")
    with pytest.raises(SystemExit, match="ourz: choose from ours, window"):
        study.main(study.Args(variants=("ourz",), dataset=Path("nowhere")))
