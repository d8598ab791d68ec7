"""Models that do not begin from nothing: as a trained world model, or with the scans of a trained Mamba-2."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from lssvwm_models.memory.scans import BlockScan
from lssvwm_models.model.blocks import Block
from lssvwm_models.model.config import WorldModelConfig
from lssvwm_models.model.network import Network
from lssvwm_models.model.world_model import WorldModel
from lssvwm_models.utils.tensor_files import load_tensors

OF_THE_DATA: Final = ("odometry.", "tokenizer.codebook")
# The layout z, x, B, C, dt of `in_proj`, and what the others mean, are the same there (with one group) and here.
PARAMETERS: Final = ("in_proj.weight", "dt_bias", "A_log", "D", "norm.weight", "out_proj.weight")


@dataclass(frozen=True)
class Pretrained:
    """What became of a Mamba-2 checkpoint.

    Attributes:
        layers: which layer of the checkpoint (value) each scan (key, by its block in the network) now begins as.
        ignored: names in the checkpoint that nothing here corresponds to, or that no scan was left for.
    """

    layers: dict[int, int]
    ignored: tuple[str, ...]

    def __str__(self) -> str:
        pairs = ", ".join(f"block {ours} from layer {theirs}" for ours, theirs in self.layers.items())
        convolutions = sum(".conv1d." in name for name in self.ignored)
        return (
            f"Scans that begin as Mamba-2's: {pairs}. Ignored: {len(self.ignored)} tensors, {convolutions} of them of "
            "its convolutions (conv1d), which these scans do not have. They forget per token as fast as it did; the "
            "norms and biases of their keys are their own."
        )


def load_mamba2(network: Network, source: str | Path | Mapping[str, Tensor]) -> Pretrained:
    """Let the scans of a network, first to last, begin as the first layers of a Mamba-2.

    Args:
        network: its weights are replaced, all or none.
        source: a safetensors file, or a state dict, with names such as `backbone.layers.0.mixer.in_proj.weight`.

    Raises:
        ValueError: If the file is no safetensors file, or layers or sizes are not there; the message names them all.
    """
    theirs = source if isinstance(source, Mapping) else _read(Path(source))
    blocks = enumerate(network.blocks)
    scans = [(i, b.scan) for i, b in blocks if isinstance(b, Block) and isinstance(b.scan, BlockScan)]
    targets: dict[str, Tensor] = {}
    wrong: list[str] = []
    for layer, (i, scan) in enumerate(scans):
        for name in PARAMETERS:
            key = f"backbone.layers.{layer}.mixer.{name}"
            target = scan.get_parameter(name)
            if key not in theirs:
                wrong.append(f"  {key}: missing; expected {tuple(target.shape)} for the scan of block {i}")
            elif theirs[key].shape != target.shape:
                found = tuple(theirs[key].shape)
                wrong.append(f"  {key}: {found}; expected {tuple(target.shape)} for the scan of block {i}")
            targets[key] = target
    if wrong or not scans:
        raise ValueError(
            "this Mamba-2 does not fit the scans of the network:\n" + "\n".join(wrong or ["  there are none"]) + "\n"
            "Match d_model, d_inner (expand * d_model), headdim, and for every block size d_state = max(4, "
            "state_per_token * block ** 2)"
        )
    with torch.no_grad():
        for key, parameter in targets.items():
            parameter.copy_(theirs[key])
    layers = {i: layer for layer, (i, _) in enumerate(scans)}
    return Pretrained(layers, tuple(sorted(key for key in theirs if key not in targets)))


def model_from_weights(config: WorldModelConfig, file: str | Path) -> WorldModel:
    """A model that begins as a trained one; see `load_weights`.

    Its tokenizer is the trained one's, whose number of latents followed from the frames that it was fitted to, and not
    from those that the model is trained on now.
    """
    encoder = _read(Path(file)).get("tokenizer.encoder")
    model = WorldModel(config if encoder is None else replace(config, latent_dim=encoder.shape[-1]))
    load_weights(model, file)
    return model


def load_weights(model: WorldModel, file: str | Path) -> None:
    """Let a model begin as a trained one, such as the `model.safetensors` of a simulator; all of it or nothing.

    But for the codebook, and for the dead reckoning, which numbers motions by how frequent they are: both are of the
    data it was trained on. They begin afresh, as do parts that the file does not have.

    Raises:
        ValueError: If the file is no safetensors file, or has weights that do not fit; the message names them.
    """
    ours = model.state_dict()
    theirs = {k: v for k, v in _read(Path(file)).items() if not k.startswith(OF_THE_DATA)}
    wrong = [f"{k} {tuple(v.shape)}, which this model does not have" for k, v in theirs.items() if k not in ours]
    wrong += [
        f"{k} {tuple(v.shape)}, which is {tuple(ours[k].shape)} in this model"
        for k, v in theirs.items()
        if k in ours and v.shape != ours[k].shape
    ]
    if wrong:
        raise ValueError(
            f"init={file} does not fit: it has {'; '.join(wrong[:5])}{' and more' * (len(wrong) > 5)}. Train with the "
            "preset, and on the environment, that it was trained with"
        )
    model.load_state_dict(theirs, strict=False)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_tensors(path)[0]
    except ValueError as error:
        raise ValueError(
            f"{error}. If it is pickled: such checkpoints are not opened, as they can run code; convert it where you "
            "trust it, with safetensors.torch.save_file"
        ) from error
