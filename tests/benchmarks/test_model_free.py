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
    assert all(point["success"]["n"] == 2 for point in record["curve"])
    assert set(SPLITS["train"][:2]) <= set(seeds) and set(SPLITS["test"][:2]) <= set(seeds)
