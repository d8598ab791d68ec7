"""What a world model is made of: sizes of its network, and presets of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final, Literal

from lssvwm_models.memory.first_person.keyframes import SHOWN
from lssvwm_models.memory.first_person.rays import FirstPersonView
from lssvwm_models.memory.geometry import EgoView
from lssvwm_models.model.actions import ActionSpec
from lssvwm_models.utils.checks import check_fields, shown

WIDTH: Final = (1, 2**16)  # of any layer
MOST_LAYERS: Final = 64
MOST_PATCHES: Final = 256  # per side of a frame
MOST_CODES: Final = 1024  # of a codebook: more are no few kinds of patches
MOST_KEYFRAMES: Final = 2**16


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of the network.

    Attributes:
        d_model: width of the tokens.
        merge: side of the square of patches that one token stands for. Maps know every patch by its own place.
        block_sizes: side of the scan's tubes in each layer, in tokens; each divides the grid. Its length is the depth.
        map_layers: layers whose state is addressed by place, a map of the world; their tube is the whole frame. The
            other layers address theirs by content.
        window: how many earlier frames are mixed into a frame, besides what the memory tells.
        state_per_token: length of the state's keys per token of a tube, in layers that are no maps.
        d_inner: width of the values held in the state.
        headdim: width of one head of the scan. head_dim: of one head of the attention.
        mlp_ratio: width of the MLP over d_model.
        map_size: places further apart than this many cells, in either direction, may be mistaken for one another.
        overlap: whether tubes smaller than the frame overlap, see `BlockScan`.
        memory: what carries the past: "scan", or, to compare with, "attention" over earlier frames, with none of the
            layers of which block sizes are then asked but how many there are.
        memory_frames: frames of an episode after which scans forget: from then on at least a share 1 / memory_frames of
            the memory per frame, so that in dreams without an end it stays as large as it became by then. None: no more
            than they have learned to.
        memory_window: how many earlier frames "attention" remembers; None: all of them, at a growing cost.
        mixing: what mixes the tokens of a frame: the paper's "attention" (section 4.1), or a depthwise "convolution",
            which learns to draw sharper frames from as many.
        keyframes: how many frames are kept as they were seen, in first person, see `memory.first_person`; 0: none.
        voxels: columns of voxels per side of the map that goes with them, three to a cell.
    """

    d_model: int = 192
    merge: int = 2
    block_sizes: tuple[int, ...] = (4, 2, 4, 4)
    map_layers: tuple[int, ...] = (0, 2)
    window: int = 0
    state_per_token: int = 4
    d_inner: int = 128
    headdim: int = 32
    head_dim: int = 32
    mlp_ratio: int = 3
    map_size: int = 16
    overlap: bool = False
    memory: Literal["scan", "attention"] = "scan"
    memory_frames: int | None = None
    memory_window: int | None = None
    mixing: Literal["attention", "convolution"] = "convolution"
    keyframes: int = 0
    voxels: int = 72

    def __post_init__(self) -> None:
        check_fields(
            self,
            d_model=WIDTH,
            merge=(1, MOST_PATCHES),
            block_sizes=(1, MOST_PATCHES),
            map_layers=(0, MOST_LAYERS),
            window=(0, 1024),
            state_per_token=WIDTH,
            d_inner=WIDTH,
            headdim=WIDTH,
            head_dim=WIDTH,
            mlp_ratio=(1, 64),
            map_size=(2, 128),  # its square is the number of places
            memory_frames=1,
            memory_window=1,
            keyframes=(0, MOST_KEYFRAMES),
            voxels=(8, 1024),
        )
        if 0 < self.keyframes < SHOWN:
            raise ValueError(f"keyframes={self.keyframes} must be 0, or at least {SHOWN}: so many are shown at once")
        if not 1 <= len(self.block_sizes) <= MOST_LAYERS or len(self.map_layers) > MOST_LAYERS:
            raise ValueError(
                f"block_sizes={shown(self.block_sizes)} and map_layers={shown(self.map_layers)} must be of 1 to "
                f"{MOST_LAYERS} layers"
            )


# `debug` takes seconds to train, `micro` half an hour of a CPU core (for small worlds, dreamt fast), `tiny` an hour or
# two, `small` a GPU: it has 6 M parameters.
PRESETS: Final = {
    "debug": NetworkConfig(
        d_model=32,
        block_sizes=(4, 2),
        map_layers=(0,),
        state_per_token=1,
        d_inner=32,
        head_dim=16,
        headdim=16,
        map_size=8,
    ),
    "micro": NetworkConfig(
        d_model=128,
        merge=4,
        block_sizes=(2, 2),
        map_layers=(0,),
        d_inner=64,
        headdim=16,
        mlp_ratio=2,
        mixing="attention",  # its frames have only four tokens
    ),
    "tiny": NetworkConfig(),
    "small": NetworkConfig(
        d_model=256,
        block_sizes=(4, 1, 4, 2, 4),
        map_layers=(0, 2),
        d_inner=256,
        headdim=64,
    ),
}


@dataclass(frozen=True)
class WorldModelConfig:
    """What a world model is made of.

    Attributes:
        action: the action space.
        frame_size, channels: frames are (channels, frame_size, frame_size).
        patch: side of a patch, in pixels.
        latent_dim: k, numbers per patch; before it is fitted to frames, at most (see `PatchTokenizer.fit`).
        codebook_size: of the patches that frames are made of, where these are few (see `WorldModel.set_codebook`).
        network: sizes of the network.
        feature_dim: length of the feature vector read off each frame.
        block_frames: frames per temporal block; longer sequences are processed block by block with the memory carried.
        view: of a camera that moves with an agent, from above or in first person: enables dead reckoning. None: the
            camera stands still.
    """

    action: ActionSpec
    frame_size: int = 64
    channels: int = 3
    patch: int = 8
    latent_dim: int = 32
    codebook_size: int = 0
    network: NetworkConfig = field(default_factory=NetworkConfig)
    feature_dim: int = 128
    block_frames: int = 32
    view: EgoView | FirstPersonView | None = None

    def __post_init__(self) -> None:
        sizes = {"frame_size": (1, 4096), "channels": (1, 64), "patch": (1, 4096)}
        check_fields(self, **sizes, latent_dim=WIDTH, codebook_size=(0, MOST_CODES), feature_dim=WIDTH, block_frames=1)
        if self.frame_size % self.patch:
            raise ValueError(
                f"frame_size is {self.frame_size}, not divisible by patch {self.patch}; resize or pad the frames"
            )
        if self.grid > MOST_PATCHES:
            raise ValueError(f"patch={self.patch} must be larger: {self.grid} patches per side, at most {MOST_PATCHES}")
        if self.network.keyframes and not isinstance(self.view, FirstPersonView):
            raise ValueError(
                f"keyframes={self.network.keyframes} are shown from where the eye is, but view={shown(self.view)}: "
                "give a FirstPersonView, or set keyframes=0"
            )

    @property
    def in_plane(self) -> bool:
        """Whether poses are numbers of any size, and not cells and quarter turns."""
        return isinstance(self.view, FirstPersonView) and self.view.motions is None

    @property
    def grid(self) -> int:
        """Patches per side of a frame."""
        return self.frame_size // self.patch


def in_first_person(network: NetworkConfig) -> NetworkConfig:
    """The same network for frames in first person.

    It keeps keyframes, which show most of what there is to see, and has the last frame at hand: two layers, the first
    of them a map, two thirds of the width, in whole heads, and half of the values are enough.
    """
    return replace(
        network,
        d_model=2 * network.d_model // 3 // network.head_dim * network.head_dim,
        d_inner=network.d_inner // 2,
        block_sizes=network.block_sizes[:2],
        map_layers=(0,),
        keyframes=512,
        window=1,
    )


def preset(name: str, action: ActionSpec, **changes: object) -> WorldModelConfig:
    """A config by the name of its network in `network.PRESETS`."""
    if name not in PRESETS:
        raise ValueError(f"no preset is named {name!r}; choose from {', '.join(PRESETS)}")
    return replace(WorldModelConfig(action, network=PRESETS[name]), **changes)  # type: ignore[arg-type]
