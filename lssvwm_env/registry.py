"""The bundled simulators, by their Gymnasium ids."""

from __future__ import annotations

from typing import Final

import gymnasium as gym

# Most steps in an episode, by id: as in the real environment, and as `horizon` in the simulator's own config.json.
BUNDLED: Final = {
    "LSSVWM/MiniGrid-MemoryS9-v0": 405,
    "LSSVWM/ObjectRooms-v0": 1000,
}


def register_envs() -> None:
    """Register the bundled simulators with Gymnasium; reads no files. `import lssvwm_env` has done so already."""
    for env_id, horizon in BUNDLED.items():
        if env_id not in gym.registry:
            gym.register(
                env_id,
                entry_point="lssvwm_env.env:LSSVWMEnv",
                vector_entry_point="lssvwm_env.vector:LSSVWMVectorEnv",
                max_episode_steps=horizon,
                kwargs={"simulator": env_id},
            )
