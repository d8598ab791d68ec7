"""Training an actor-critic in imagination alone. `ImaginationTrainer.run` is the loop, `train_step` the step.

After Dreamer (Hafner et al. 2023, DreamerV3): thousands of steps are dreamed side by side from what the model remembers
of real contexts, and the policy is moved towards actions that turned out better than the critic had expected.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from lssvwm_agents.policies.actor_critic import MOST_LAYERS, ActorCritic, ActorCriticConfig
from lssvwm_agents.policies.returns import discounted_returns, lambda_returns
from lssvwm_env.envs.core import SimulatorCore
from lssvwm_models.data.episodes import EpisodeDataset
from lssvwm_models.execution.noise import fold
from lssvwm_models.execution.precision import in_float32
from lssvwm_models.memory.state import WorldModelState
from lssvwm_models.training.optimizers import averaged
from lssvwm_models.utils.checks import SHARE, check_fields
from lssvwm_models.utils.randomness import modules_drawn_from, step_generator
from lssvwm_models.utils.run_folder import RunFolder
from lssvwm_models.utils.training_loop import Schedule, TrainingLoop

POLICY: Final = "policy.safetensors"
STIFFNESS: Final = 1.0  # weight of the policy's entropy, per share of spread that is missing
REACH: Final = 2.0  # times the largest return ever recorded, that the critic may expect
SCALE_DECAY: Final = 0.99  # of the running range of returns (DreamerV3)
RETURN_RANGE: Final = (0.05, 0.95)  # the percentiles that it lies between


@dataclass(frozen=True)
class ImaginationConfig:
    """How an actor-critic is trained in imagination.

    Attributes:
        out: folder of the run; repeating a call resumes it.
        updates: batches of dreams to learn from.
        num_dreams: B, worlds dreamed side by side, each from a real context of its own.
        horizon: H, steps of a dream.
        context: frames of a real context; None: as many as the simulator was trained on in one piece.
        refresh: contexts replaced before every update, a divisor of `num_dreams`: taking in a frame costs about as much
            as imagining one, so each context is dreamed from `num_dreams / refresh` times.
        event_share, start_share: shares of the contexts that a reward or a termination followed within a horizon, and
            that end with the first frame of an episode, where a policy will have to begin; the others end anywhere.
        passes, minibatches: how often the steps of a dream are gone through, and in how many parts. Imagining a step
            costs far more than learning from it. 1 and 1 is Dreamer's single gradient; the first gradient of more is
            the same, and those after it are held near the policy that dreamed by `clip_range`.
        clip_range: how far the probability of an action may move before its gradient stops (PPO).
        gamma, lambda_: discount, and trust in rewards over values; see `lambda_returns`.
        lr, clip: learning rate of Adam, and the largest gradient norm, of the actor and the critic each.
        slow: decay, per gradient, of the averaged critic that returns are estimated with.
        entropy_coef: least weight of the policy's entropy.
        spread: least `ActionDistribution.normalized_entropy` of the policy, at the first update and at the last: while
            it is smaller, the weight of the entropy grows.
        width, depth: of the actor-critic.
        log_every, eval_every: updates between lines of metrics, with a checkpoint, and between evaluations.
        seed: every update draws its contexts and chances from (seed, update), so that a resumed run repeats an unbroken
            one.
    """

    out: Path
    updates: int = 500
    num_dreams: int = 256
    horizon: int = 15
    context: int | None = None
    refresh: int = 16
    event_share: float = 0.25
    start_share: float = 0.25
    passes: int = 3
    minibatches: int = 4
    clip_range: float = 0.2
    gamma: float = 0.99
    lambda_: float = 0.95
    lr: float = 3e-4
    clip: float = 1.0
    slow: float = 0.98
    entropy_coef: float = 3e-4
    spread: tuple[float, float] = (0.5, 0.1)
    width: int = 256
    depth: int = 2
    log_every: int = 10
    eval_every: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(
            self,
            updates=1,
            num_dreams=1,
            horizon=1,
            context=1,
            refresh=1,
            event_share=SHARE,
            start_share=SHARE,
            passes=1,
            minibatches=1,
            clip_range=SHARE,
            gamma=SHARE,
            lambda_=SHARE,
            slow=SHARE,
            entropy_coef=SHARE,
            spread=SHARE,
            width=1,
            depth=(1, MOST_LAYERS),
            log_every=1,
            eval_every=1,
        )
        if self.event_share + self.start_share > 1:
            raise ValueError(
                f"event_share={self.event_share} and start_share={self.start_share} are shares of the same contexts: "
                "together they must be at most 1"
            )
        if self.num_dreams % self.refresh:
            raise ValueError(f"refresh={self.refresh} must be a divisor of num_dreams={self.num_dreams}")
        if self.minibatches > self.num_dreams:
            raise ValueError(f"minibatches={self.minibatches} must be at most num_dreams={self.num_dreams}")

    def least_spread(self, update: int) -> float:
        """The spread that the policy should have at an update."""
        first, last = self.spread
        return first + (last - first) * update / self.updates


class ImaginedRollout(NamedTuple):
    """H imagined steps in B worlds, time first.

    `feats` (H + 1, B, F); `raw` (H, B) or (H, B, A), the raw actions, see `ActionDistribution`; `rew` (H, B), and
    `cont` (H, B), the probability of no end, came with the frame that followed.
    """

    feats: Tensor
    raw: Tensor
    rew: Tensor
    cont: Tensor


class Targets(NamedTuple):
    """What is learned from a rollout: the slow critic's `values` (H + 1, B), and, of its steps (H, B), the `returns`,
    the chance that the world was still `alive`, the scaled `advantages`, and `log_prob` under the policy that acted."""

    values: Tensor
    returns: Tensor
    alive: Tensor
    advantages: Tensor
    log_prob: Tensor


class ImaginationTrainer(TrainingLoop):
    """Trains an actor-critic inside a run folder, in dreams that begin from real contexts; see `ImaginationConfig`.

    Args:
        config: How.
        core: What is dreamed with, its device and precision included; its own worlds are left alone.
        dataset: Recorded episodes, of the environment that the simulator was trained on.
        initial: What the actor-critic begins as, such as the last one of an agent whose simulator was trained on; None:
            new.

    Attributes:
        actor_critic: What is trained, on the core's device; `policy.safetensors` in the run folder is its last copy.
        step: Updates made so far.
        seconds: What these took.
        scale: The running range of returns.

    Raises:
        ValueError: If the dataset is too short, the context too long, `initial` of another shape, or the run folder
            holds another run.
    """

    @in_float32()
    def __init__(
        self,
        config: ImaginationConfig,
        core: SimulatorCore,
        dataset: EpisodeDataset,
        initial: ActorCritic | None = None,
    ) -> None:
        self.config = config
        self.core = core
        self.dataset = dataset
        about = core.simulator.config
        trained = about.trained_length
        self.context = trained if config.context is None else config.context
        if not 1 <= self.context <= trained:
            raise ValueError(
                f"context is {self.context}; expected 1 to {trained} frames, what the model was trained on"
            )
        self.points, self.eventful = context_ends(dataset, self.context, config.horizon)
        self.beginnings = self.points[dataset.is_first[self.points]]
        sizes = ActorCriticConfig(
            feature_dim=about.model.feature_dim,
            action_space=about.action_space,
            width=config.width,
            depth=config.depth,
            weights_sha256=core.simulator.weights_sha256,
            # As far as before for an agent that is trained on: its critic's outputs stand for these returns.
            reach=REACH * largest_return(dataset, config.gamma) if initial is None else initial.config.reach,
        )
        with modules_drawn_from(torch.Generator().manual_seed(config.seed)):
            self.actor_critic = ActorCritic(sizes).to(core.device)
        if initial is not None:
            _check_same_shape(initial.config, sizes)
            self.actor_critic.load_state_dict(initial.state_dict())
        # Estimates that the critic is trained towards must not move with every step of the critic.
        self.averaged_critic = averaged(self.actor_critic.critic, get_ema_multi_avg_fn(config.slow))
        self.optimizer = torch.optim.Adam(self.actor_critic.parameters(), config.lr, eps=1e-5)
        self.scale = 0.0
        self._pool: dict[int, WorldModelState] = {}  # by round
        described = {
            "imagination": {k: v for k, v in asdict(config).items() if k != "out"},
            "data": dataset.hash(),
            "simulator": core.simulator.weights_sha256,
            "denoising_steps": core.denoising_steps,
            "initial": None if initial is None else initial.sha256(),
        }
        schedule = Schedule("imagine", config.updates, config.log_every, config.eval_every, config.log_every)
        super().__init__(RunFolder(config.out, described), schedule)
        self.resume()

    @property
    def slow_critic(self) -> torch.nn.Module:
        """The critic with averaged weights, that returns are estimated with."""
        return self.averaged_critic.module

    @property
    def imagined_steps(self) -> int:
        """Frames imagined to learn from, so far."""
        return self.step * self.config.num_dreams * self.config.horizon

    @property
    def real_frames(self) -> int:
        """Recorded frames that the model observed to dream from, so far; a frame counts as often as it was observed."""
        contexts = self.config.num_dreams + (self.step - 1) * self.config.refresh
        return contexts * self.context if self.step else 0

    @in_float32()
    def run(self, evaluate: Callable[[ActorCritic], dict[str, float]] | None = None) -> ActorCritic:
        """Train until `config.updates`, from wherever the run folder stands; returns the actor-critic.

        Args:
            evaluate: Judges it, every `eval_every` updates and after the last, such as by SB3's `evaluate_policy` in
                the real environment. Its numbers are logged under their names. Whatever is chosen by them is fitted to
                the episodes that they come from: reset with seeds of `SPLITS["validation"]`, never of "test".
        """
        self.loop(None if evaluate is None else lambda: evaluate(self.actor_critic))
        return self.actor_critic

    def train_step(self) -> dict[str, float]:
        """Take in some real contexts, dream from all, and learn from the dreams."""
        started = time.perf_counter()
        rng = step_generator(self.config.seed, self.step, self.core.device)
        metrics = self._learn(self.dream(self._starts(), rng), rng)
        self.step += 1
        self.seconds += time.perf_counter() - started
        return metrics

    @torch.no_grad()
    def dream(self, memory: WorldModelState, rng: torch.Generator) -> ImaginedRollout:
        """Act for `horizon` steps in B imagined worlds that go on from `memory`."""
        numbers = torch.arange(memory.batch_size, device=self.core.device)
        keys = fold(fold(numbers, self.config.seed), self.step)
        feats = [memory.feats]
        raw: list[Tensor] = []
        rew: list[Tensor] = []
        cont: list[Tensor] = []
        for step in range(self.config.horizon):
            raw.append(self.actor_critic.policy(feats[-1]).sample(rng))
            actions = self.actor_critic.to_actions(raw[-1])
            frame, memory = self.core.imagine(memory, actions, keys, donate=step > 0)
            feats.append(frame.feats)
            rew.append(frame.rew.float())
            cont.append(1 - frame.term_prob.float())
        return ImaginedRollout(torch.stack(feats), torch.stack(raw), torch.stack(rew), torch.stack(cont))

    def _learn(self, rollout: ImaginedRollout, rng: torch.Generator) -> dict[str, float]:
        """Gradient steps on imagined rollouts."""
        config = self.config
        targets = self._targets(rollout)
        parts: list[dict[str, Tensor]] = []
        for _ in range(config.passes):
            order = torch.randperm(config.num_dreams, generator=rng, device=rollout.rew.device)
            for worlds in order.chunk(config.minibatches):
                parts.append(self._gradient_step(rollout, targets, worlds))
        means = {name: float(torch.stack([part[name] for part in parts]).mean()) for name in parts[0]}
        return means | {
            "reward": float((targets.alive * rollout.rew).sum(0).mean()),
            "return": float(targets.returns[0].mean()),
            "value": float(targets.values[0].mean()),
            "ended": float(1 - (targets.alive[-1] * rollout.cont[-1]).mean()),
            "scale": self.scale,
        }

    @torch.no_grad()
    def _targets(self, rollout: ImaginedRollout) -> Targets:
        """What to learn from imagined rollouts; moves the running range of returns on."""
        config = self.config
        values = self.slow_critic(rollout.feats)
        returns = lambda_returns(rollout.rew, rollout.cont, values, config.gamma, config.lambda_)
        # A step counts by the chance that the world was still there: dreams go on beyond their end.
        alive = torch.cat([torch.ones_like(rollout.cont[:1]), rollout.cont[:-1]]).cumprod(0)
        # The extremes are left out: a few large returns must not shrink the advantages of all others.
        low, high = torch.quantile(returns, torch.tensor(RETURN_RANGE, device=returns.device)).tolist()
        decay = SCALE_DECAY if self.step else 0.0
        self.scale = decay * self.scale + (1 - decay) * (high - low)
        # Large returns are scaled down, but small ones not up: where nothing is to be had, that would be noise.
        advantages = (returns - values[:-1]) / max(1.0, self.scale)
        log_prob = self.actor_critic.policy(rollout.feats[:-1]).log_prob(rollout.raw)
        return Targets(values, returns, alive, advantages, log_prob)

    def _gradient_step(self, rollout: ImaginedRollout, targets: Targets, worlds: Tensor) -> dict[str, Tensor]:
        """Move actor and critic by the steps of some worlds; returns what that was like."""
        config = self.config
        agent = self.actor_critic
        feats = rollout.feats[:-1, worlds]
        weight = targets.alive[:, worlds]
        advantages = targets.advantages[:, worlds]
        policy = agent.policy(feats)
        # The clipped objective of PPO (Schulman et al. 2017): once an action is that much more, or less, probable than
        # under the policy that dreamed, the dream says no more of what would come of it.
        ratio = (policy.log_prob(rollout.raw[:, worlds]) - targets.log_prob[:, worlds]).exp()
        clipped = ratio.clamp(1 - config.clip_range, 1 + config.clip_range)
        gain = torch.minimum(ratio * advantages, clipped * advantages)
        spread = (weight * policy.normalized_entropy()).sum().detach() / weight.sum()
        coef = self._entropy_coef(float(spread))
        actor_loss = -(weight * (gain + coef * policy.entropy())).mean()
        critic_loss = (weight * agent.critic.loss(feats, targets.returns[:, worlds])).mean()
        self.optimizer.zero_grad()
        (actor_loss + critic_loss).backward()
        for part in (agent.actor, agent.critic):  # each by itself: their gradients have nothing to do with each other
            torch.nn.utils.clip_grad_norm_(part.parameters(), config.clip)
        self.optimizer.step()
        self.averaged_critic.update_parameters(agent.critic)
        return {
            "actor_loss": actor_loss.detach(),
            "critic_loss": critic_loss.detach(),
            "clipped": (ratio.detach() != clipped.detach()).float().mean(),
            "spread": spread,
            "entropy_coef": torch.tensor(coef),
        }

    def _entropy_coef(self, spread: float) -> float:
        """The weight of the entropy: larger, the more the policy lacks of the spread that it should have by now.

        A constant weight, as DreamerV3 has, is either too small to keep a policy from settling before the critic knows
        anything, or too large to let it become sharp at last; which of them depends on the rewards. A least spread that
        declines means the same in every world. The answer is in proportion, and so needs no memory: a weight that grows
        for as long as something is missing overshoots, and policies then swing between sharp and random.
        """
        missing = max(0.0, self.config.least_spread(self.step) - spread)
        return self.config.entropy_coef + STIFFNESS * missing

    def _starts(self) -> WorldModelState:
        """The memories that this update's dreams begin with, of `num_dreams` contexts.

        Round r of contexts is a function of (seed, r), and update u dreams from the rounds from u on, as many as there
        is room for. So a run that is resumed has them again without keeping them.
        """
        rounds = range(self.step, self.step + self.config.num_dreams // self.config.refresh)
        self._pool = {r: self._pool[r] if r in self._pool else self._context_memories(r) for r in rounds}
        return WorldModelState.cat(list(self._pool.values()))

    def _context_memories(self, number: int) -> WorldModelState:
        """The memories of `refresh` contexts, those of a round."""
        config = self.config
        core = self.core
        rng = np.random.default_rng([config.seed, number])
        ends = rng.choice(self.points, config.refresh)
        filled = 0
        for share, points in ((config.event_share, self.eventful), (config.start_share, self.beginnings)):
            if len(points) and (count := min(round(share * config.refresh), config.refresh - filled)):
                ends[filled : filled + count] = rng.choice(points, count)
                filled += count
        index = ends[:, None] + np.arange(1 - self.context, 1)  # (refresh, T)
        is_first = self.dataset.is_first[index]
        is_first[:, 0] = True
        return core.update_memory(
            core.initial_memory(config.refresh),
            self.dataset.obs[index],
            torch.from_numpy(self.dataset.act[index]).to(core.device),
            torch.from_numpy(is_first).to(core.device),
        )

    def status(self, metrics: dict[str, float]) -> str:
        """What the progress bar says."""
        return f"return {metrics['return']:.3f}  spread {metrics['spread']:.2f}"

    def totals(self) -> dict[str, float]:
        """What it cost so far."""
        return {"imagined_steps": self.imagined_steps, "real_frames": self.real_frames, "seconds": self.seconds}

    def checkpoint(self) -> None:
        """Write what is needed to go on as if the training had never stopped, and the policy for others to use."""
        self.actor_critic.save(self.config.out / POLICY)
        super().checkpoint()

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds; see `TrainingLoop`."""
        return {
            "scale": self.scale,
            "actor_critic": self.actor_critic.state_dict(),
            "slow_critic": self.slow_critic.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from the `state` of a checkpoint."""
        self.scale = state["scale"]
        self.actor_critic.load_state_dict(state["actor_critic"])
        self.slow_critic.load_state_dict(state["slow_critic"])
        self.optimizer.load_state_dict(state["optimizer"])


def largest_return(dataset: EpisodeDataset, gamma: float) -> float:
    """The largest discounted return from any recorded frame on, in size; 1 where there were no rewards."""
    is_last = np.append(dataset.is_first[1:], True)
    return float(np.abs(discounted_returns(dataset.rew, gamma, is_last)).max()) or 1.0


def _check_same_shape(found: ActorCriticConfig, wanted: ActorCriticConfig) -> None:
    """Raise if weights of one actor-critic do not fit another; whose features it was trained on does not matter."""
    theirs = asdict(found)
    ours = asdict(wanted)
    names = [name for name in ours if name != "weights_sha256" and theirs[name] != ours[name]]
    if names:
        differing = [f"{name} {theirs[name]}, not {ours[name]}" for name in names]
        raise ValueError(
            f"initial has {' and '.join(differing)}: give one of the same environment, width and depth, or None"
        )


def context_ends(dataset: EpisodeDataset, context: int, horizon: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Frames that real contexts may end at, and those of them that an event follows within a horizon.

    A context never ends with a termination: what comes after it means nothing. It may run over the end of an episode
    into the next, and the memory then begins there.

    Raises:
        ValueError: If there are none.
    """
    frames = np.arange(len(dataset))
    possible = ~dataset.terminated & (frames >= context - 1)
    if not possible.any():
        raise ValueError(
            f"contexts of {context} frames were asked of {len(dataset)} frames of {dataset.folder}; collect more"
        )
    episode = dataset.is_first.cumsum()
    events = dataset.events
    following = np.append(events, len(dataset))[np.searchsorted(events, frames, side="right")]  # after each frame
    soon = (following - frames <= horizon) & (following < len(dataset))
    soon &= episode[following.clip(max=len(dataset) - 1)] == episode
    return frames[possible], frames[possible & soon]
