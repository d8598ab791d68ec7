import pytest
import torch

from world_models.state import WorldModelState


def make(batch=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    return WorldModelState(
        ssm=(torch.randn(batch, 4, 2, 3, 5, generator=g), torch.randn(batch, 1, 2, 3, 8, generator=g)),
        kv=tuple(torch.randn(batch, 2, 4, 2, 2, 3, generator=g) for _ in range(2)),
        latents=torch.randn(batch, 4, 6, generator=g),
        feats=torch.randn(batch, 7, generator=g),
        pose=torch.randint(-9, 9, (batch, 3), generator=g),
        age=torch.randint(0, 9, (batch,), generator=g),
    )


def equal(a, b):
    return all(torch.equal(t, b.tensors()[k]) for k, t in a.tensors().items())


def test_saving_and_loading_is_the_identity(tmp_path):
    state = make()
    state.save(tmp_path / "s.safetensors", {"note": "x"})
    loaded, metadata = WorldModelState.load(tmp_path / "s.safetensors")
    assert equal(loaded, state) and metadata == {"note": "x"}
    assert [f.name for f in tmp_path.iterdir()] == ["s.safetensors"]


def test_a_damaged_file_is_refused_by_name(tmp_path):
    make().save(path := tmp_path / "s.safetensors")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"s.safetensors is not a saved world model state"):
        WorldModelState.load(path)


def test_forks_are_side_by_side_and_independent():
    state = make(2)
    forks = state.repeat_interleave(3)
    assert forks.batch_size == 6 and equal(forks[[0, 3]], state) and equal(forks[[2, 5]], state)
    before = state.clone()
    forks.latents.zero_()
    assert equal(state, before)


def test_where_picks_worlds():
    a, b = make(3, 0), make(3, 1)
    mixed = a.where(torch.tensor([True, False, True]), b)
    assert equal(mixed[[0, 2]], a[[0, 2]]) and equal(mixed[[1]], b[[1]])


def test_cat_undoes_indexing():
    state = make(3)
    assert equal(WorldModelState.cat([state[:1], state[1:]]), state)


def test_forks_of_one_world_take_no_memory_and_are_values_like_others(tmp_path):
    state = make(1)
    forks = state.repeat_interleave(5)
    assert equal(forks, WorldModelState.cat([state] * 5)) and forks.latents.data_ptr() == state.latents.data_ptr()
    changed = forks.where(torch.tensor([True, False, True, True, True]), make(5, seed=1))
    assert equal(changed[[0]], state) and equal(forks[[1]], state) and not equal(changed[[1]], state)
    forks.save(tmp_path / "s.safetensors")
    assert equal(WorldModelState.load(tmp_path / "s.safetensors")[0], forks)


def test_nbytes_counts_every_tensor():
    state = make(1)
    assert state.nbytes == 4 * (4 * 30 + 48 + 2 * 96 + 24 + 7) + 8 * 4
    assert make(3).nbytes == 3 * state.nbytes
