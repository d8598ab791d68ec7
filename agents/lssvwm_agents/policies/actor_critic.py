"""An actor-critic that reads a world model's features: small, as remembering and seeing are done by the model."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F
from lssvwm_models.utils.files import write_bytes
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from lssvwm_env.simulator.simulator import Simulator, tensor_differences
from lssvwm_env.utils.json_types import from_json, space_from_json

FORMAT: Final = "lssvwm-actor-critic"
UNIFORM_SHARE: Final = 0.01  # of every choice between actions: none becomes too rare to be tried again (DreamerV3)
MIN_STD: Final = 0.1  # of continuous actions, before they are squashed


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
        for name in ("feature_dim", "width", "depth"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        if self.reach <= 0:
            raise ValueError(f"reach is {self.reach}; expected more than 0")
        space = space_from_json(self.action_space, "action_space")
        if isinstance(space, gym.spaces.Box) and not (len(space.shape) == 1 and space.is_bounded()):
            raise ValueError(f"action_space is {space}; expected Discrete, or a Box of vectors with finite bounds")


class Policy(Protocol):
    """A distribution over what to do in each of B worlds. A choice is an action as the distribution knows it."""

    def sample(self, rng: torch.Generator) -> Tensor:
        """A choice per world, (B,) or (B, A); `rng` must be on the policy's device."""

    def drawn(self, noise: Tensor) -> Tensor:
        """The choice that standard normal noise (B,) or (B, A) stands for: a sample that belongs to one world."""

    def mode(self) -> Tensor:
        """The choice that is made where none shall be left to chance."""

    def log_prob(self, choice: Tensor) -> Tensor:
        """(B,) of choices (B,) or (B, A)."""

    def entropy(self) -> Tensor:
        """(B,), in nats; of continuous actions as if they ranged from -1 to 1."""

    def spread(self) -> Tensor:
        """(B,) the entropy as a share: from 0, always the same action, to 1, all alike."""


class Categorical:
    """A policy over n actions, of logits (B, n); choices are their numbers."""

    def __init__(self, logits: Tensor) -> None:
        self.probs = (1 - UNIFORM_SHARE) * logits.float().softmax(-1) + UNIFORM_SHARE / logits.shape[-1]

    def sample(self, rng: torch.Generator) -> Tensor:
        """See `Policy`."""
        return torch.multinomial(self.probs, 1, generator=rng)[:, 0]

    def drawn(self, noise: Tensor) -> Tensor:
        """See `Policy`."""
        below = self.probs.cumsum(-1)[..., :-1] < torch.special.ndtr(noise).unsqueeze(-1)
        return below.sum(-1)

    def mode(self) -> Tensor:
        """See `Policy`."""
        return self.probs.argmax(-1)

    def log_prob(self, choice: Tensor) -> Tensor:
        """See `Policy`."""
        return self.probs.gather(-1, choice.unsqueeze(-1)).squeeze(-1).log()

    def entropy(self) -> Tensor:
        """See `Policy`."""
        return -(self.probs * self.probs.log()).sum(-1)

    def spread(self) -> Tensor:
        """See `Policy`."""
        return self.entropy() / max(math.log(self.probs.shape[-1]), 1e-8)


class TanhGaussian:
    """A policy over vectors in (-1, 1)^A, of parameters (B, 2 A); a choice is the vector before it is squashed.

    `log_prob` is of the choice: that of the action differs by a term without parameters, which no gradient sees.
    """

    def __init__(self, parameters: Tensor) -> None:
        self.mean, raw = parameters.float().chunk(2, -1)
        self.std = MIN_STD + F.softplus(raw)  # 0.8 for zeros: squashed, nearly uniform

    def sample(self, rng: torch.Generator) -> Tensor:
        """See `Policy`."""
        noise = torch.randn(self.mean.shape, generator=rng, device=self.mean.device)
        return self.drawn(noise)

    def drawn(self, noise: Tensor) -> Tensor:
        """See `Policy`."""
        return self.mean + self.std * noise

    def mode(self) -> Tensor:
        """See `Policy`."""
        return self.mean

    def log_prob(self, choice: Tensor) -> Tensor:
        """See `Policy`."""
        z = (choice - self.mean) / self.std
        return -(z.square() / 2 + self.std.log() + math.log(2 * math.pi) / 2).sum(-1)

    def entropy(self) -> Tensor:
        """See `Policy`."""
        return self._entropies().sum(-1)

    def spread(self) -> Tensor:
        """See `Policy`: the share of the range that a uniform choice of the same entropy would cover."""
        return (self._entropies().mean(-1) - math.log(2)).exp()

    def _entropies(self) -> Tensor:
        """Entropy of each number, (B, A): the Gaussian's, and the mean of log |d tanh(u) / du|.

        There is no formula for the latter. As it is smooth and of one number, Gauss-Hermite quadrature gives it nearly
        exactly, where samples would bring noise.
        """
        nodes, weights = (
            torch.from_numpy(a).to(self.mean) for a in np.polynomial.hermite_e.hermegauss(_QUADRATURE_NODES)
        )
        u = self.mean.unsqueeze(-1) + self.std.unsqueeze(-1) * nodes
        log_slope = 2 * (math.log(2) - u - F.softplus(-2 * u))
        gaussian = self.std.log() + math.log(2 * math.pi * math.e) / 2
        return gaussian + (log_slope * weights).sum(-1) / math.sqrt(2 * math.pi)


_QUADRATURE_NODES: Final = 16


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
        symlogs = torch.linspace(-math.log1p(reach), math.log1p(reach), count)
        self.register_buffer("bins", symlogs.sign() * torch.expm1(symlogs.abs()), persistent=False)

    def forward(self, feats: Tensor) -> Tensor:
        """Expected returns (...)."""
        return (self.mlp(feats).float().softmax(-1) * self.bins).sum(-1)

    def loss(self, feats: Tensor, returns: Tensor) -> Tensor:
        """Cross-entropy (...) against the two bins around each return, weighted so that their mean is the return."""
        returns = returns.clamp(float(self.bins[0]), float(self.bins[-1]))
        high = torch.searchsorted(self.bins, returns.contiguous()).clamp(min=1)
        low = high - 1
        high_share = (returns - self.bins[low]) / (self.bins[high] - self.bins[low])
        log_prob = self.mlp(feats).float().log_softmax(-1)
        at_low, at_high = (log_prob.gather(-1, i.unsqueeze(-1)).squeeze(-1) for i in (low, high))
        return -(1 - high_share) * at_low - high_share * at_high


class ActorCritic(nn.Module):
    """What to do, and what to expect, given features (B, F) of B worlds.

    Before training all actions are alike, and nothing is expected. It plays wherever features are observed:
    `LSSVWMVecEnv(observation="features")`, or `MemoryFeatures` around a real environment; and, having SB3's `predict`,
    is judged by its `evaluate_policy`.
    """

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

    def policy(self, feats: Tensor) -> Policy:
        """What to do, given features (B, F)."""
        return self._policy(self.actor(feats))

    def _policy(self, parameters: Tensor) -> Policy:
        discrete = isinstance(self.action_space, gym.spaces.Discrete)
        return Categorical(parameters) if discrete else TanhGaussian(parameters)

    def actions(self, choice: Tensor) -> Tensor:
        """Choices of the policy as actions of the space: long (B,) or float (B, A)."""
        if isinstance(self.action_space, gym.spaces.Discrete):
            return choice
        low, high = (torch.as_tensor(b, device=choice.device) for b in (self.action_space.low, self.action_space.high))
        return torch.lerp(low, high, (choice.tanh() + 1) / 2).clamp(low, high)

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
            state, episode_start: Ignored: the features remember.
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
        policy = self._policy(parameters.cpu())  # the same chances on every device
        choice = policy.mode() if deterministic else policy.sample(self._rng)
        actions: NDArray[Any] = self.actions(choice).numpy().astype(self.action_space.dtype)
        return actions.reshape(feats.shape[:-1] + actions.shape[1:]), None

    def set_random_seed(self, seed: int) -> None:
        """Begin anew the stream of chance that `predict` draws from."""
        self._rng.manual_seed(seed)

    def save(self, path: str | Path) -> None:
        """Write to a safetensors file, whole or not at all."""
        metadata = {"format": FORMAT, "config": json.dumps(asdict(self.config))}
        write_bytes(path, self._weights(metadata))

    def sha256(self) -> str:
        """SHA-256 of the weights, in hexadecimal."""
        return hashlib.sha256(self._weights()).hexdigest()

    def _weights(self, metadata: dict[str, str] | None = None) -> bytes:
        return save({k: v.contiguous() for k, v in self.state_dict().items()}, metadata)

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
        try:
            with safe_open(str(path), "pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        except (SafetensorError, IsADirectoryError) as error:
            raise ValueError(f"{path} is not a safetensors file ({error})") from error
        if metadata.get("format") != FORMAT:
            raise ValueError(f"{path} holds tensors, but no actor-critic; write one with ActorCritic.save()")
        try:
            config = from_json(ActorCriticConfig, json.loads(metadata["config"]), "config")
        except (KeyError, ValueError) as error:
            raise ValueError(f"{path} is damaged, or of another release: {error}") from error
        with torch.random.fork_rng(devices=[]):  # the weights drawn here are replaced: leave the global stream alone
            actor_critic = ActorCritic(config)
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


def lambda_returns(rew: Tensor, cont: Tensor, values: Tensor, gamma: float, lambda_: float) -> Tensor:
    """What can be expected from each of H steps on: rewards where they were imagined, the critic's values beyond.

    R_t = rew_t + gamma * cont_t * ((1 - lambda_) * values_{t + 1} + lambda_ * R_{t + 1}), and R_H = values_H; see
    TD(lambda), Sutton and Barto 2018, section 12.1. So `lambda_` 0 trusts the critic after a single step, and 1 only
    at the end.

    Args:
        rew: (H, ...) that came with the frame after each step.
        cont: (H, ...) the probability that the world went on after it, 0 to 1.
        values: (H + 1, ...) of the frames before the steps, and of the last one.
        gamma: Discount per step, 0 to 1.
        lambda_: 0 to 1.

    Returns:
        (H, ...).

    Raises:
        ValueError: If the shapes do not fit together.
    """
    if rew.shape != cont.shape or values.shape != (len(rew) + 1, *rew.shape[1:]):
        raise ValueError(
            f"rew has shape {tuple(rew.shape)}, cont {tuple(cont.shape)} and values {tuple(values.shape)}; expected "
            "(H, ...), the same, and (H + 1, ...)"
        )
    following, returns = values[-1], []
    for t in reversed(range(len(rew))):
        following = rew[t] + gamma * cont[t] * torch.lerp(values[t + 1], following, lambda_)
        returns.append(following)
    return torch.stack(returns[::-1])
