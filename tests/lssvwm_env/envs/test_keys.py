"""People play in a simulator with the keys of its real environment."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pygame
import pytest
from minigrid.core.actions import Actions

from lssvwm_env.envs.env import LSSVWMEnv
from lssvwm_env.envs.keys import keys_to_action
from lssvwm_env.simulator.simulator import Simulator


def test_minigrid_has_the_keys_of_its_manual_control():
    assert keys_to_action("MiniGrid-Empty-5x5-v0", gym.spaces.Discrete(7)) == {
        (pygame.K_LEFT,): Actions.left,
        (pygame.K_RIGHT,): Actions.right,
        (pygame.K_UP,): Actions.forward,
        (pygame.K_PAGEUP,): Actions.pickup,
        (pygame.K_TAB,): Actions.pickup,
        (pygame.K_PAGEDOWN,): Actions.drop,
        (pygame.K_LSHIFT,): Actions.drop,
        (pygame.K_SPACE,): Actions.toggle,
        (pygame.K_RETURN,): Actions.done,
    }


def test_actions_that_a_minigrid_world_lacks_have_no_key():
    keys = keys_to_action("MiniGrid-Dynamic-Obstacles-6x6-v0", gym.spaces.Discrete(3))
    assert keys == {(pygame.K_LEFT,): 0, (pygame.K_RIGHT,): 1, (pygame.K_UP,): 2}


def test_other_worlds_have_their_actions_on_digits_and_letters():
    assert keys_to_action("CartPole-v1", gym.spaces.Discrete(2)) == {(ord("0"),): 0, (ord("1"),): 1}
    many = keys_to_action("ALE/Pong-v5", gym.spaces.Discrete(18))
    assert list(many.values()) == list(range(18)) and many[ord("9"),] == 9 and many[ord("h"),] == 17


def test_vectors_have_no_keys(toy_box_simulator: Simulator):
    with pytest.raises(ValueError, match=r"no key stands for an action of Box.*give gymnasium.utils.play a keys_to_a"):
        LSSVWMEnv(toy_box_simulator).get_keys_to_action()


def test_every_key_is_an_action_of_the_environment(toy_simulator: Simulator):
    env = LSSVWMEnv(toy_simulator)
    assert all(np.int64(action) in env.action_space for action in env.get_keys_to_action().values())
