"""MiniGrid's worlds in first person."""

from lssvwm_env.real.first_person.raycaster import (
    EYE_BEHIND,
    EYE_HEIGHT,
    FIELD_OF_VIEW,
    SIDE,
    WALL_BLOCK,
    Raycaster,
    RaycastMiniGrid,
    Sight,
)

__all__ = [
    "EYE_BEHIND",
    "EYE_HEIGHT",
    "FIELD_OF_VIEW",
    "SIDE",
    "WALL_BLOCK",
    "RaycastMiniGrid",
    "Raycaster",
    "Sight",
]
