"""Numbers of whatever type numpy has come to torch as what they are."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from lssvwm_env.envs.arguments import as_actions, as_tensor


@pytest.mark.parametrize("kind", [*np.typecodes["AllInteger"], *np.typecodes["AllFloat"], "?"])
def test_every_type_of_numbers_has_one_that_torch_knows(kind: str) -> None:
    given = np.array([0, 1, 1], kind)
    tensor = as_tensor(given, "numbers")
    assert tensor.tolist() == [0, 1, 1] and tensor.dtype.is_complex == np.iscomplexobj(given)
    swapped = as_tensor(given.astype(given.dtype.newbyteorder()), "numbers")
    assert torch.equal(swapped, tensor) and swapped.dtype == tensor.dtype


@pytest.mark.parametrize("action", [2**63, [2**63], np.ulonglong(7), np.array([7], np.ulonglong), np.longdouble(1e300)])
@pytest.mark.parametrize("space", [gym.spaces.Discrete(3), gym.spaces.Box(-1, 1, (1,), np.float32)])
def test_actions_that_are_none_are_refused_by_name_whatever_their_type(space: Any, action: Any) -> None:
    with pytest.raises(ValueError, match="^actions"):
        as_actions(space, action, (1,), "actions")
