"""`UncertaintyGuard`: keeps an agent where the dream knows what it is doing."""

from __future__ import annotations

from typing import Any, SupportsFloat

import gymnasium as gym


class UncertaintyGuard(gym.Wrapper[Any, Any, Any, Any]):
    """Truncates episodes, and lowers rewards, where a dream is unsure of its next frame.

    Agents that learn in a model find where it is wrong in their favour. What they gain there, they should not keep.

    Args:
        env: A `LSSVWMEnv`, perhaps wrapped, with `uncertainty_samples` of at least 2.
        limit: Uncertainty, a share of full brightness, above which the episode is truncated; None: nowhere.
        penalty: Reward lost per unit of uncertainty.

    Raises:
        ValueError: If `env` does not measure its uncertainty.
    """

    def __init__(self, env: gym.Env[Any, Any], limit: float | None = None, penalty: float = 0.0) -> None:
        super().__init__(env)
        core = getattr(env.unwrapped, "core", None)
        if not getattr(core, "uncertainty_samples", 0):
            raise ValueError(f"{env} does not measure its uncertainty; make it with uncertainty_samples=4")
        self.limit, self.penalty = limit, penalty

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Step; the reward is that of the dream less the penalty, and the info is that of the dream."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        unsure = info["uncertainty"]
        lost = self.limit is not None and unsure > self.limit
        return obs, float(reward) - self.penalty * unsure, terminated, truncated or lost, info
