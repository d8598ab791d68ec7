"""Keys for people who play in a simulator, with `gymnasium.utils.play`."""

from __future__ import annotations

import string
from typing import Any, Final

import gymnasium as gym

# As in minigrid.manual_control: names of pygame's keys, and the numbers of `minigrid.core.actions.Actions`.
_MINIGRID: Final = {
    "K_LEFT": 0,
    "K_RIGHT": 1,
    "K_UP": 2,
    "K_PAGEUP": 3,
    "K_TAB": 3,
    "K_PAGEDOWN": 4,
    "K_LSHIFT": 4,
    "K_SPACE": 5,
    "K_RETURN": 6,
}


def keys_to_action(env_id: str, space: gym.Space[Any]) -> dict[tuple[int, ...], int]:
    """The keys of a real environment: see `LSSVWMEnv.get_keys_to_action`."""
    if not isinstance(space, gym.spaces.Discrete):
        raise ValueError(f"no key stands for an action of {space}; give gymnasium.utils.play a keys_to_action")
    if env_id.startswith("MiniGrid-"):
        pygame = require_pygame("keys")
        return {(getattr(pygame, key),): action for key, action in _MINIGRID.items() if action < space.n}
    keys = string.digits + string.ascii_lowercase
    return {(ord(key),): action for action, key in enumerate(keys[: space.n])}


def require_pygame(purpose: str) -> Any:
    """The library that opens windows and reads keys.

    Raises:
        DependencyNotInstalled: If it is not there; `purpose` says what it is needed for.
    """
    try:
        import pygame
    except ImportError as error:
        message = f"{purpose} needs pygame; install it with: pip install pygame-ce"
        raise gym.error.DependencyNotInstalled(message) from error
    return pygame
