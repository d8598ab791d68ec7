"""Dead reckoning is trained on what hardly ever happens as much as on what happens all the time."""

from types import SimpleNamespace

import numpy as np
import pytest

from lssvwm_models.training.parts import odometry


@pytest.mark.parametrize(("discrete", "expected"), [(True, [1 / 9] * 3 + [1 / 3] * 2), (False, [1 / 8] * 4 + [1 / 2])])
def test_pairs_of_action_and_motion_are_drawn_equally_often(discrete, expected):
    """Three steps by action 1, a stop by action 1, and a stop by action 0 ... of five steps."""
    x = np.array([0, 1, 2, 3, 3, 3])
    act = np.array([0, 1, 1, 1, 1, 0])
    if not discrete:  # there, the motion alone is the kind: four steps and a stop
        x = np.array([0, 1, 2, 3, 4, 4])
    pose = np.stack([x, 0 * x, 0 * x], 1).astype(np.int32)
    recorded = SimpleNamespace(pose=pose, act=act)
    chances = odometry._chances(recorded, np.arange(5), discrete)
    np.testing.assert_allclose(chances, expected)
