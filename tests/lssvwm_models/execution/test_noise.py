import torch

from lssvwm_models.execution.noise import fold, frame_noise


def test_noise_is_standard_normal_and_uncorrelated():
    noise = frame_noise(torch.arange(50), torch.arange(50), (2000,))
    assert noise.mean().abs() < 0.02 and (noise.std() - 1).abs() < 0.02
    assert (noise.abs() > 2).float().mean().sub(0.0455).abs() < 0.005
    correlation = torch.corrcoef(noise) - torch.eye(50)
    assert correlation.abs().max() < 0.12


def test_noise_of_a_world_does_not_depend_on_its_neighbours():
    together = frame_noise(torch.tensor([3, 4]), torch.tensor([7, 9]), (4, 5))
    alone = frame_noise(torch.tensor([4]), torch.tensor([9]), (4, 5))
    assert torch.equal(together[1], alone[0])


def test_noise_changes_with_key_and_frame():
    key, frame = torch.tensor([1]), torch.tensor([1])
    noise = frame_noise(key, frame, (8,))
    assert not torch.equal(noise, frame_noise(key + 1, frame, (8,)))
    assert not torch.equal(noise, frame_noise(key, frame + 1, (8,)))


def test_children_of_a_key_differ():
    keys = torch.full((100,), 5)
    assert len(fold(keys, torch.arange(100)).unique()) == 100
