import pytest
import torch

from lssvwm_models.model.actions import ActionEmbedding, ActionSpec


@pytest.mark.parametrize(
    ("spec", "act", "message"),
    [
        (ActionSpec("discrete", 3), torch.tensor([0, 3]), r"values 0..3; expected 0..2"),
        (ActionSpec("discrete", 3), torch.tensor([0.0]), "dtype torch.float32; expected integers"),
        (ActionSpec("box", 2), torch.zeros(4, 3), r"shape \(4, 3\)"),
        (ActionSpec("box", 2), torch.zeros(4, 2, dtype=torch.long), "expected float"),
    ],
)
def test_wrong_actions_are_named(spec, act, message):
    with pytest.raises(ValueError, match=message):
        spec.check(act)


def test_unknown_kinds_are_refused():
    with pytest.raises(ValueError, match="kind='multi' must be one of discrete, box"):
        ActionSpec("multi", 3)


@pytest.mark.parametrize(
    ("spec", "a", "b"),
    [
        (ActionSpec("discrete", 3), torch.tensor([1]), torch.tensor([2])),
        (ActionSpec("box", 2), torch.ones(1, 2), torch.zeros(1, 2)),
    ],
)
def test_first_frames_have_no_action(spec, a, b):
    embed = ActionEmbedding(spec, 4)
    first, later = torch.tensor([True]), torch.tensor([False])
    assert torch.equal(embed(a, first), embed(b, first))
    assert not torch.equal(embed(a, later), embed(b, later))
