"""Real environments: what a simulator learns from, and what an agent is judged in at last.

Importing this package registers with Gymnasium `MiniGrid-ObjectRooms-v0`, `MemoryMaze/9x9-v0` to `15x15`,
`VizDoomMaze/9x9-v0` and `13x13`, and some MiniGrid worlds in first person, as `FirstPerson/MiniGrid-ObjectRooms-v0`.
"""

import gymnasium as gym

from lssvwm_env.real.first_person import Raycaster, RaycastMiniGrid
from lssvwm_env.real.first_person.memory_maze import MemoryMazeEnv
from lssvwm_env.real.first_person.roaming import RoamPolicy
from lssvwm_env.real.first_person.vizdoom_maze import VizDoomMazeEnv
from lssvwm_env.real.minigrid import PixelMiniGrid, TilePalette, tile_palette, world_cells
from lssvwm_env.real.object_rooms import ObjectRoomsEnv
from lssvwm_env.real.pixels import PixelEnv, make_real
from lssvwm_env.real.policies import Policy, StickyPolicy, UniformPolicy, WanderPolicy
from lssvwm_env.real.recorded import make_recorded, trusted_id

gym.register("MiniGrid-ObjectRooms-v0", entry_point="lssvwm_env.real.object_rooms:ObjectRoomsEnv")
for _world in (
    "MiniGrid-ObjectRooms-v0",
    "MiniGrid-MemoryS9-v0",
    "MiniGrid-MemoryS13-v0",
    "MiniGrid-DoorKey-6x6-v0",
    "MiniGrid-LavaCrossingS9N1-v0",
    "MiniGrid-Dynamic-Obstacles-6x6-v0",
    "MiniGrid-FourRooms-v0",
):
    _spec = gym.spec(_world)
    gym.register(
        f"FirstPerson/{_world}",
        entry_point=_spec.entry_point,
        kwargs=_spec.kwargs | {"agent_view_size": 3, "highlight": False},  # MiniGrid's own view, least to work out
        additional_wrappers=(RaycastMiniGrid.wrapper_spec(),),
    )

__all__ = [
    "MemoryMazeEnv",
    "ObjectRoomsEnv",
    "PixelEnv",
    "PixelMiniGrid",
    "Policy",
    "RaycastMiniGrid",
    "Raycaster",
    "RoamPolicy",
    "StickyPolicy",
    "TilePalette",
    "UniformPolicy",
    "VizDoomMazeEnv",
    "WanderPolicy",
    "make_real",
    "make_recorded",
    "tile_palette",
    "trusted_id",
    "world_cells",
]
