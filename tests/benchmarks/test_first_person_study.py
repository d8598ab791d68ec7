from dataclasses import replace
from pathlib import Path

import pytest

from lssvwm_env.datasets.collect import CollectConfig, collect
from lssvwm_models.data import EpisodeDataset
from lssvwm_models.model.world_model import WorldModel
from lssvwm_models.training.parts import renderer

SMALL = {"d_model": 32, "d_inner": 32, "headdim": 16, "head_dim": 16, "map_size": 8}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    out = tmp_path_factory.mktemp("study") / "data"
    env_id = "FirstPerson/MiniGrid-ObjectRooms-v0"
    return collect(CollectConfig(env_id, out, frames=600, episode_length=200, workers=1, shard_frames=200))


def test_models_that_are_compared_have_the_same_size(program, dataset):
    study = program("benchmarks/first_person_study.py")
    sizes = {}
    for name, variant in study.VARIANTS.items():
        _, config = study.configs(variant, 0, study.Args(), dataset)
        model = WorldModel(replace(config, latent_dim=66))
        sizes[name] = sum(parameter.numel() for parameter in model.network.parameters())
    ratios = {name: size / sizes["ours"] for name, size in sizes.items()}
    assert all(0.93 < ratio < 1.07 for ratio in ratios.values()), ratios


def test_every_variant_is_something_else(program, dataset):
    study = program("benchmarks/first_person_study.py")
    networks = [study.configs(v, 0, study.Args(), dataset)[1].network for v in study.VARIANTS.values()]
    assert len(set(networks)) == len(networks)
    assert networks[0] == study.model_config(dataset, "tiny").network
    args = study.Args()
    asked = {name: (task.protocol, task.context, task.horizon) for name, task in args.tasks().items()}
    assert asked == {
        "96 after 192": ("reasoning", 192, 96),
        "retrieval": ("retrieval", 400, 399),
        "reasoning": ("reasoning", 576, 224),
    }


def test_a_record_says_what_was_asked_and_answered_and_is_made_once(
    program, dataset: EpisodeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    study = program("benchmarks/first_person_study.py")
    monkeypatch.setattr(study, "RECORDS", tmp_path / "records")
    for name, few in {"SEQUENCES": 2, "LENGTH": 40, "MAPS": 2, "MAPPED": 4, "VIEWS": 2}.items():
        monkeypatch.setattr(renderer, name, few)
    small = {name: replace(v, network=v.network | SMALL) for name, v in study.VARIANTS.items()}
    monkeypatch.setattr(study, "VARIANTS", {name: small[name] for name in ("ours",)})
    args = study.Args(
        variants=("ours",),
        dataset=dataset.folder,
        test=dataset.folder,
        runs=tmp_path / "runs",
        world="rooms",
        steps=1,
        render_steps=1,
        sequences=2,
        scale=0.03,
    )
    study.main(args)
    (path,) = study.RECORDS.iterdir()
    assert path.name == "rooms-ours-1-0.json.gz"
    record = program("benchmarks/records_io.py").read(path)
    assert set(record["answers"]) == {"96 after 192", "retrieval", "reasoning"}
    assert record["answers"]["retrieval"]["given_dream"]["psnr"]["value"] > 0
    assert record["answers"]["reasoning"]["context"] == 17
    assert (record["render_steps"], record["network"]["keyframes"]) == (1, 512)
    before = path.stat().st_mtime_ns
    study.main(args)
    assert path.stat().st_mtime_ns == before


def test_an_unknown_variant_is_named(program):
    study = program("benchmarks/first_person_study.py")
    with pytest.raises(SystemExit, match="ourz: choose from ours, full-attention"):
        study.main(study.Args(variants=("ourz",), dataset=Path("nowhere")))
