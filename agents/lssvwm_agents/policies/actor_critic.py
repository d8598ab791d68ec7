"""An actor-critic that reads a world model's features: small, as remembering and seeing are done by the model."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lssvwm_agents.policies.distributions import ActionDistribution, Categorical, TanhGaussian
from lssvwm_env.simulator.simulator import Simulator, tensor_differences
from lssvwm_env.utils.json_types import space_from_json
from lssvwm_models.execution.precision import in_float32
from lssvwm_models.utils.checks import check_fields
from lssvwm_models.utils.json_files import from_json, parse_json, to_json
from lssvwm_models.utils.tensor_files import NoLargerThan, load_tensors, save_tensors, tensor_bytes
from lssvwm_models.utils.two_hot import mean_bin, symexp, two_hot_loss

FORMAT: Final = "lssvwm-actor-critic"
MOST_LAYERS: Final = 64


@dataclass(frozen=True)
class ActorCriticConfig:
    """What an actor-critic is made of.

    Attributes:
        feature_dim: F, length of the features.
        action_space: as in a simulator's config, e.g. `{"type": "Discrete", "n": 7}`, or a Box of vectors with bounds.
        width, depth: of the hidden layers, of the actor and of the critic each.
        weights_sha256: of the simulator whose features it was trained on; those of another mean nothing to it.
        reach: the largest return, in size, that the critic can expect.
    """

    feature_dim: int
    action_space: dict[str, Any]
    width: int = 256
    depth: int = 2
    weights_sha256: str | None = None
    reach: float = 20.0

    def __post_init__(self) -> None:
        check_fields(self, feature_dim=1, width=1, depth=(1, MOST_LAYERS))
        if self.reach <= 0:
            raise ValueError(f"reach is {self.reach}; expected more than 0")
        space = space_from_json(self.action_space, "action_space")
        if isinstance(space, gym.spaces.Box) and not (len(space.shape) == 1 and space.is_bounded()):
            raise ValueError(f"action_space is {space}; expected Discrete, or a Box of vectors with finite bounds")


class Critic(nn.Module):
    """Expected returns (...) of features (..., F), as a distribution over bins that are dense around zero (DreamerV3).

    Returns of sparse rewards are mostly zero, rarely large, and of unknown size: the gradients of a cross-entropy do
    not grow with them, as those of a regression would. Other than in the model's reward head, the mean is taken over
    the values of the bins and not over their symlogs: where one may win or lose, it must be the mean of the two.

    The bins go no further than returns can (`reach`): what little probability is left in bins of 100 and more moves the
    mean by several hundredths, and where an agent may stay for ever, bootstrapping multiplies that by 1 / (1 - gamma).
    """

    bins: Tensor

    def __init__(self, feature_dim: int, width: int, depth: int, reach: float, count: int = 65) -> None:
        super().__init__()
        self.mlp = mlp(feature_dim, width, depth, count)
        grid = torch.linspace(-math.log1p(reach), math.log1p(reach), count)
        self.register_buffer("bins", symexp(grid), persistent=False)

    def forward(self, feats: Tensor) -> Tensor:
        """Expected returns (...)."""
        return mean_bin(self.mlp(feats), self.bins)

    def loss(self, feats: Tensor, returns: Tensor) -> Tensor:
        """Cross-entropy (...) against the two bins around each return, weighted so that their mean is the return."""
        target = returns.clamp(float(self.bins[0]), float(self.bins[-1]))
        low = torch.searchsorted(self.bins, target.contiguous()).clamp(min=1) - 1
        high_share = (target - self.bins[low]) / (self.bins[low + 1] - self.bins[low])
        return two_hot_loss(self.mlp(feats), low, high_share)


class ActorCritic(nn.Module):
    """What to do, and what to expect, given features (B, F) of B worlds.

    Before training all actions are alike, and nothing is expected. It plays wherever features are observed:
    `LSSVWMVecEnv(observation="features")`, or `MemoryFeatures` around a real environment; and, having SB3's `predict`,
    is judged by its `evaluate_policy`.
    """

    @in_float32()
    def __init__(self, config: ActorCriticConfig) -> None:
        super().__init__()
        self.config = config
        self.action_space = space_from_json(config.action_space, "action_space")
        if isinstance(self.action_space, gym.spaces.Discrete):
            outputs = int(self.action_space.n)
        else:
            outputs = 2 * self.action_space.shape[0]
        self.actor = mlp(config.feature_dim, config.width, config.depth, outputs)
        self.critic = Critic(config.feature_dim, config.width, config.depth, config.reach)
        self._rng = torch.Generator()

    def policy(self, feats: Tensor) -> ActionDistribution:
        """What to do, given features (B, F)."""
        return self._distribution(self.actor(feats))

    def _distribution(self, parameters: Tensor) -> ActionDistribution:
        discrete = isinstance(self.action_space, gym.spaces.Discrete)
        return Categorical(parameters) if discrete else TanhGaussian(parameters)

    def to_actions(self, raw: Tensor) -> Tensor:
        """Raw actions, which a policy draws, as actions of the space: long (B,) or float (B, A)."""
        if isinstance(self.action_space, gym.spaces.Discrete):
            return raw
        low = torch.as_tensor(self.action_space.low, device=raw.device)
        high = torch.as_tensor(self.action_space.high, device=raw.device)
        return torch.lerp(low, high, (raw.tanh() + 1) / 2).clamp(low, high)

    @torch.no_grad()
    def predict(
        self,
        observation: NDArray[np.float32] | Mapping[str, NDArray[np.float32]],
        state: tuple[NDArray[Any], ...] | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], None]:
        """Choose actions, with the arguments that SB3's policies take.

        Args:
            observation: Features (B, F) or (F,); or a dict that has them under "features".
            state: Ignored: the features remember.
            episode_start: Ignored, too.
            deterministic: Take the likeliest action; else draw one, from a stream that `set_random_seed` begins.

        Returns:
            Actions (B,) or (B, A), or a single one without B; and no state.

        Raises:
            ValueError: If these are not the features that it was made for.
        """
        feats = np.asarray(observation["features"] if isinstance(observation, Mapping) else observation)
        width = self.config.feature_dim
        if feats.ndim not in (1, 2) or feats.shape[-1] != width:
            raise ValueError(
                f"observation has shape {feats.shape}; expected features ({width},) or (B, {width}): make the "
                'environment with observation="features", or wrap a real one in MemoryFeatures'
            )
        device = next(self.parameters()).device
        parameters = self.actor(torch.as_tensor(feats, dtype=torch.float32, device=device).reshape(-1, width))
        policy = self._distribution(parameters.cpu())  # the same chances on every device
        raw = policy.mode() if deterministic else policy.sample(self._rng)
        actions: NDArray[Any] = self.to_actions(raw).numpy().astype(self.action_space.dtype)
        return actions.reshape(feats.shape[:-1] + actions.shape[1:]), None

    def set_random_seed(self, seed: int) -> None:
        """Begin anew the stream of chance that `predict` draws from."""
        self._rng.manual_seed(seed)

    def save(self, path: str | Path) -> None:
        """Write to a safetensors file, whole or not at all."""
        metadata = {"format": FORMAT, "config": to_json(asdict(self.config))}
        save_tensors(path, self.state_dict(), metadata)

    def sha256(self) -> str:
        """SHA-256 of the weights, in hexadecimal."""
        return hashlib.sha256(tensor_bytes(self.state_dict())).hexdigest()

    @staticmethod
    def load(path: str | Path, simulator: Simulator | None = None) -> ActorCritic:
        """Read a file of `save`, onto the CPU.

        Args:
            path: The file.
            simulator: The one whose features it is going to read, to check that it was trained on these.

        Raises:
            FileNotFoundError: If there is none.
            ValueError: If it is another file, damaged, or was trained on the features of another simulator.
        """
        tensors, metadata = load_tensors(path)
        if metadata.get("format") != FORMAT:
            raise ValueError(f"{path} holds tensors, but no actor-critic; write one with ActorCritic.save()")
        try:
            config = from_json(ActorCriticConfig, parse_json(metadata["config"], "its config"), "config")
        except (KeyError, ValueError) as error:
            raise ValueError(f"{path} is damaged, or of another release: {error}") from error
        try:
            # The weights drawn here are replaced: leave the global stream alone.
            with torch.random.fork_rng(devices=[]), NoLargerThan(tensors):
                actor_critic = ActorCritic(config)
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"{path} is damaged, or of another release: of its config, {error}") from error
        if differences := tensor_differences(tensors, actor_critic.state_dict()):
            raise ValueError(
                f"{path} is damaged, or of another release: its tensors are not those of its config:\n{differences}"
            )
        if simulator is not None and config.weights_sha256 != simulator.weights_sha256:
            raise ValueError(
                f"{path} was trained on the features of the weights {str(config.weights_sha256)[:12]}..., but this "
                f"simulator has {simulator.weights_sha256[:12]}...: train it again, or load the simulator it came from"
            )
        actor_critic.load_state_dict(tensors)
        return actor_critic


def bundled_policy(env_id: str) -> Path:
    """The file of the policy that this library brings for a real environment, such as "MiniGrid-MemoryS9-v0".

    Raises:
        FileNotFoundError: If it brings none.
    """
    folder = Path(__file__).parents[1] / "bundled"
    file = folder / f"{env_id}.safetensors"
    if not file.is_file():
        known = ", ".join(sorted(path.stem for path in folder.glob("*.safetensors"))) or "none"
        raise FileNotFoundError(
            f"no policy comes with this library for {env_id} (for {known}): train one with "
            "`lssvwm imagine`, and name its file"
        )
    return file


def mlp(inputs: int, width: int, depth: int, outputs: int) -> nn.Sequential:
    """Hidden layers with RMSNorm and SiLU, and a last one that begins at zero."""
    layers: list[nn.Module] = []
    for i in range(depth):
        layers += [nn.Linear(width if i else inputs, width), nn.RMSNorm(width, eps=1e-5), nn.SiLU()]
    last = nn.Linear(width, outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, last)
