"""PPO without a model learns on the train split, is judged on the test split, and leaves a curve."""

import json

import pytest

from lssvwm_models.data.splits import SPLITS


@pytest.mark.parametrize("recurrent", [False, True])
def test_a_curve_is_written(program, tmp_path, monkeypatch, recurrent):
    module = program("benchmarks/model_free.py")
    monkeypatch.setattr(module, "RECORDS", tmp_path)
    seeds, reset = [], module.Seeded.reset

    def noted(self, **kwargs):
        observation = reset(self, **kwargs)
        seeds.append(self.unwrapped.np_random_seed)
        return observation

    monkeypatch.setattr(module.Seeded, "reset", noted)
    env_id = "MiniGrid-Empty-5x5-v0"
    module.main(module.Args(env_id, steps=256, recurrent=recurrent, num_envs=2, eval_every=256, episodes=2))
    (path,) = tmp_path.iterdir()
    record = json.loads(path.read_text())
    assert path.name == f"model-free-{env_id}{'-recurrent' * recurrent}-0.json"
    assert [point["real_steps"] for point in record["curve"]] == [0, 256]
    assert all(point["success"]["n"] == point["return"]["n"] == 2 for point in record["curve"])
    for point in record["curve"]:  # what is paid there is between 0 and 1
        assert 0 <= point["return"]["value"] <= point["success"]["value"]
    assert set(SPLITS["train"][:2]) <= set(seeds) and set(SPLITS["test"][:2]) <= set(seeds)


def test_worlds_in_first_person_are_not_looked_at_as_tiles_and_have_a_file_of_their_own(program, tmp_path, monkeypatch):
    module = program("benchmarks/model_free.py")
    monkeypatch.setattr(module, "RECORDS", tmp_path)
    env_id = "FirstPerson/MiniGrid-ObjectRooms-v0"
    assert module.extractor(env_id) == {}
    assert module.extractor("MiniGrid-Empty-5x5-v0") == {"features_extractor_class": module.Tiles}
    learned = []
    monkeypatch.setattr(module.PPO, "learn", lambda model, steps, callback: learned.append(callback.path))
    module.main(module.Args(env_id, num_envs=2))
    assert learned == [tmp_path / "model-free-FirstPerson-MiniGrid-ObjectRooms-v0-0.json"]
