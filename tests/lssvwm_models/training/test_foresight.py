"""Features learn what will matter from what followed."""

import torch

from lssvwm_models.data.batch import Batch
from lssvwm_models.model.actions import ActionSpec
from lssvwm_models.training.foresight import Following, Foresight


def batch(T=10) -> Batch:
    """Two rows: the first ends at frame 6 and pays; an episode begins at frame 3 of the second."""
    act = torch.arange(2 * T).view(2, T)
    is_first = torch.zeros(2, T).bool()
    terminated = torch.zeros(2, T).bool()
    rew = torch.zeros(2, T)
    terminated[0, 6] = True
    rew[0, 6] = 0.9
    is_first[0, 7] = is_first[1, 3] = True
    return Batch(torch.zeros(2, T, 3, 1, 1), act, rew, terminated, is_first, None)


def test_what_follows_a_frame_ends_with_its_episode_and_with_what_was_recorded():
    row, frame = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([4, 6, 7, 0, 7])
    found = Following.of(batch(), row, frame, steps=4)
    assert found.valid.tolist() == [
        [True, True, False, False],  # frames 5 and 6: then it is over
        [False] * 4,  # nothing follows an end
        [True, True, False, False],  # frames 8 and 9 are the last
        [True, True, False, False],  # until another episode begins
        [True, True, False, False],
    ]
    assert found.act[0, :2].tolist() == [5, 6] and found.act[4, :2].tolist() == [18, 19]
    torch.testing.assert_close(found.rew[0, :2], torch.tensor([0, 0.9]))
    assert found.terminated[0, :2].tolist() == [False, True]


def test_what_followed_some_frames_is_that_of_each():
    row = torch.tensor([0, 0, 1])
    frame = torch.tensor([4, 7, 0])
    whole = Following.of(batch(), row, frame, steps=4)
    parts = [Following.of(batch(), row[i : i + 1], frame[i : i + 1], steps=4) for i in range(3)]
    for found in (Following.cat(parts), whole.at(torch.arange(3))):
        assert all(torch.equal(a, b) for a, b in zip(found, whole, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(whole.at(torch.tensor([2])), parts[2], strict=True))


def test_features_learn_a_fact_that_decides_later():
    """A cue says which of two actions, two steps on, will pay; only features can tell."""
    torch.manual_seed(0)
    cue = torch.randint(2, (512,))
    act = torch.randint(2, (512, 2))
    paid = (act[:, 1] == cue).float()
    rew = torch.stack([torch.zeros(512), paid], 1)
    terminated = torch.tensor([[False, True]]).expand(512, 2)
    following = Following(act, rew, terminated, torch.ones(512, 2).bool())
    features, foresight = torch.nn.Linear(2, 16), Foresight(ActionSpec("discrete", 2), 16)
    optimizer = torch.optim.Adam([*features.parameters(), *foresight.parameters()], 1e-2)
    noisy = torch.nn.functional.one_hot(cue, 2).float() + 0.1 * torch.randn(512, 2)
    first = foresight.loss(features(noisy), following).item()
    for _ in range(150):
        loss = foresight.loss(features(noisy), following)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1 * first


def test_steps_that_are_not_valid_do_not_count():
    torch.manual_seed(0)
    foresight, feats = Foresight(ActionSpec("box", 2), 8), torch.randn(3, 8)
    act, rew, end = torch.randn(3, 4, 2), torch.randn(3, 4), torch.rand(3, 4) > 0.5
    valid = torch.arange(4).expand(3, 4) < 2
    one = foresight.loss(feats, Following(act, rew, end, valid))
    other = Following(torch.where(valid[..., None], act, 7.0), torch.where(valid, rew, 3.0), end & valid, valid)
    torch.testing.assert_close(foresight.loss(feats, other), one)
    assert foresight.loss(feats, other._replace(valid=torch.zeros_like(valid))) == 0
