"""Real environments: what a simulator learns from, and what an agent is judged in at last.

Importing this package registers `MiniGrid-ObjectRooms-v0`, and `MemoryMaze/9x9-v0` to `15x15`, with Gymnasium.
"""

import gymnasium as gym

from lssvwm_env.real.first_person.memory_maze import MemoryMazeEnv
from lssvwm_env.real.minigrid import PixelMiniGrid, TilePalette, tile_palette, world_cells
from lssvwm_env.real.object_rooms import ObjectRoomsEnv
from lssvwm_env.real.pixels import PixelEnv, make_real
from lssvwm_env.real.policies import Policy, UniformPolicy, WanderPolicy
from lssvwm_env.real.recorded import make_recorded, trusted_id

gym.register("MiniGrid-ObjectRooms-v0", entry_point="lssvwm_env.real.object_rooms:ObjectRoomsEnv")

__all__ = [
    "MemoryMazeEnv",
    "ObjectRoomsEnv",
    "PixelEnv",
    "PixelMiniGrid",
    "Policy",
    "TilePalette",
    "UniformPolicy",
    "WanderPolicy",
    "make_real",
    "make_recorded",
    "tile_palette",
    "trusted_id",
    "world_cells",
]
