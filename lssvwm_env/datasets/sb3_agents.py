"""Agents that Stable-Baselines3 and sb3-contrib saved, as policies that gather data.

Their files hold pickles, which may run code. None of these is read: the network is made anew from what stands beside
them in plain JSON, and its weights are loaded as tensors.
"""

from __future__ import annotations

import ast
import json
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from io import BytesIO
from pickle import UnpicklingError
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import nn

_TOLD = "policy_class", "policy_kwargs", "observation_space"


class SB3Policy:
    """An agent that chooses by the frames that are recorded.

    Args:
        library, algorithm: What trained it, such as "stable_baselines3" and "PPO".
        path: The file that its `save` wrote.
        env: Where it is going to act: an environment of `make_real`.

    Raises:
        ValueError: If the file is no such agent, or one that saw or did other things than there are in `env`.
    """

    def __init__(self, library: str, algorithm: str, path: str, env: gym.Env[Any, Any]) -> None:
        self._path = path
        self._policy = self._made(library, algorithm, env)

    def reset(self, env: gym.Env[Any, Any], rng: np.random.Generator) -> None:
        """Begin an episode."""
        self._seed = int(rng.integers(2**32))
        self._memory: Any = None
        self._begins = np.ones(1, np.bool_)

    def act(self, env: gym.Env[Any, Any]) -> Any:
        """Choose an action, as at random as it was trained to."""
        frame = env.get_wrapper_attr("frame")
        with self._own_chance():
            action, self._memory = self._policy.predict(frame, self._memory, self._begins, deterministic=False)
        self._begins = np.zeros(1, np.bool_)
        return int(action) if isinstance(env.action_space, gym.spaces.Discrete) else action

    @contextmanager
    def _own_chance(self) -> Iterator[None]:
        """PyTorch's stream of chance follows from the episode, and goes on elsewhere as if nothing had been drawn."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            yield
            self._seed = int(torch.randint(2**32, ()))

    def _made(self, library: str, algorithm: str, env: gym.Env[Any, Any]) -> Any:
        try:
            classes = getattr(import_module(library), algorithm).policy_aliases.values()
        except ImportError as error:
            raise ValueError(f"policy='{algorithm}:{self._path}' needs {library} ({error}): install it") from error
        data, weights = self._read()
        name = re.match(r"<function (\w+)\.", str(data["policy_class"].get("__init__")))
        found = [one for one in classes if name and one.__name__ == name[1]]
        if not found:
            known = ", ".join(sorted(one.__name__ for one in classes))
            raise self._error(f"was not trained by {algorithm}, whose policies are {known}")
        options = self._options(data["policy_kwargs"])
        space = self._observed(data["observation_space"], env)
        try:
            policy = found[0](space, env.action_space, lambda _: 0.0, **options)
            policy.load_state_dict(weights)
        except (RuntimeError, TypeError) as error:
            mismatch = " ".join(str(error).split())
            raise self._error(f"does not act in {env.action_space} ({mismatch})") from error
        policy.set_training_mode(False)
        return policy

    def _options(self, said: dict[str, Any]) -> dict[str, Any]:
        """What the policy was made with. Where any of it is pickled, all is also there in plain words."""
        options = {}
        for name, value in said.items():
            if name.startswith(("optimizer_", ":")):  # nobody trains it here
                continue
            activation = re.fullmatch(r"<class 'torch\.nn\.modules\.activation\.(\w+)'>", str(value))
            try:
                options[name] = getattr(nn, activation[1]) if activation else _plain(value)
            except ValueError as error:
                raise self._error(f"was made with a {name} that only a pickle holds ({value})") from error
        return options

    def _read(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """What stands in the file in plain JSON, and its weights."""
        try:
            with zipfile.ZipFile(self._path) as file:
                weights = torch.load(BytesIO(file.read("policy.pth")), map_location="cpu", weights_only=True)
                data = json.loads(file.read("data"))
            if missing := [name for name in _TOLD if not isinstance(data.get(name), dict)]:
                raise ValueError(f"it says nothing of {', '.join(missing)}")
            return data, weights
        except (OSError, KeyError, ValueError, RuntimeError, UnpicklingError, zipfile.BadZipFile) as error:
            raise self._error(f"holds no agent ({error})") from error

    def _observed(self, said: dict[str, Any], env: gym.Env[Any, Any]) -> gym.spaces.Box:
        """The frames of `env` as the agent saw them: SB3 moves channels to the front."""
        frames = env.observation_space
        assert isinstance(frames, gym.spaces.Box)
        height, width, channels = frames.shape
        if str(said.get("_shape")) == str([channels, height, width]):
            return gym.spaces.Box(0, 255, (channels, height, width), np.uint8)
        raise self._error(f"saw {said.get('_shape')}, but frames are {frames.shape} here")

    def _error(self, what: str) -> ValueError:
        return ValueError(
            f"{self._path} {what}; write a class that loads it and acts, and name that as --policy module:Class"
        )


def _plain(value: Any) -> Any:
    """A value that may have been written as Python would."""
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except SyntaxError as error:
        raise ValueError(f"{value} is no plain value") from error
