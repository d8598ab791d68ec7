"""Training an actor-critic in imagination alone. `ImaginationTrainer.run` is the loop, `train_step` the step.

After Dreamer (Hafner et al. 2023, DreamerV3): thousands of steps are dreamed side by side from what the model remembers
of real contexts, and the policy is moved towards actions that turned out better than the critic had expected.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lssvwm_agents.policies.actor_critic import ActorCritic, ActorCriticConfig, lambda_returns
from lssvwm_env.envs.core import SimulatorCore
from lssvwm_models.data.episodes import EpisodeDataset
from lssvwm_models.execution.noise import fold
from lssvwm_models.memory.state import WorldModelState
from lssvwm_models.utils.progress import progress_bar
from lssvwm_models.utils.run_folder import RunFolder

POLICY: Final = "policy.safetensors"
STIFFNESS: Final = 1.0  # weight of the policy's entropy, per share of spread that is missing
REACH: Final = 2.0  # times the largest return ever recorded, that the critic may expect
SCALE_DECAY: Final = 0.99  # of the running range of returns (DreamerV3)


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
        spread: least spread of the policy, see `Policy.spread`, at the first update and at the last: while it is
            smaller, the weight of the entropy grows.
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
        for name in ("updates", "num_dreams", "horizon", "refresh", "passes", "minibatches", "log_every", "eval_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        shares = {
            name: getattr(self, name)
            for name in ("event_share", "start_share", "gamma", "lambda_", "slow", "clip_range", "entropy_coef")
        }
        shares |= {"spread[0]": self.spread[0], "spread[1]": self.spread[1]}
        shares["event_share + start_share"] = self.event_share + self.start_share
        for name, share in shares.items():
            if not 0 <= share <= 1:
                raise ValueError(f"{name} is {share}; expected a number from 0 to 1")
        if self.num_dreams % self.refresh:
            raise ValueError(f"refresh is {self.refresh}; expected a divisor of num_dreams, {self.num_dreams}")
        if self.minibatches > self.num_dreams:
            raise ValueError(f"minibatches is {self.minibatches}; expected at most num_dreams, {self.num_dreams}")

    def least_spread(self, update: int) -> float:
        """The spread that the policy should have at an update."""
        first, last = self.spread
        return first + (last - first) * update / self.updates


class Dream(NamedTuple):
    """H imagined steps in B worlds, time first.

    `feats` (H + 1, B, F); `choice` (H, B) or (H, B, A), what the policy chose, see `Policy`; `rew` (H, B), and `cont`
    (H, B), the probability of no end, came with the frame that followed.
    """

    feats: Tensor
    choice: Tensor
    rew: Tensor
    cont: Tensor


class ImaginationTrainer:
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

    Raises:
        ValueError: If the dataset is too short, the context too long, `initial` of another shape, or the run folder
            holds another run.
    """

    def __init__(
        self,
        config: ImaginationConfig,
        core: SimulatorCore,
        dataset: EpisodeDataset,
        initial: ActorCritic | None = None,
    ) -> None:
        self.config, self.core, self.dataset = config, core, dataset
        about, trained = core.simulator.config, core.simulator.config.trained_length
        self.context = trained if config.context is None else config.context
        if not 1 <= self.context <= trained:
            raise ValueError(
                f"context is {self.context}; expected 1 to {trained} frames, what the model was trained on"
            )
        self.points, self.eventful = context_ends(dataset, self.context, config.horizon)
        self.beginnings = self.points[dataset.is_first[self.points]]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            sizes = about.model.feature_dim, about.action_space, config.width, config.depth
            reach = initial.config.reach if initial is not None else REACH * largest_return(dataset, config.gamma)
            made = ActorCriticConfig(*sizes, core.simulator.weights_sha256, reach)
            self.actor_critic = ActorCritic(made).to(core.device)
        if initial is not None:
            _check_same_shape(initial.config, made)
            self.actor_critic.load_state_dict(initial.state_dict())
        self.slow_critic = copy.deepcopy(self.actor_critic.critic).requires_grad_(False)
        self.optimizer = torch.optim.Adam(self.actor_critic.parameters(), config.lr, eps=1e-5)
        self.step, self.seconds, self.scale = 0, 0.0, 0.0
        settings = {k: v for k, v in asdict(config).items() if k != "out"}
        self.folder = RunFolder(
            config.out,
            {"imagination": settings, "data": dataset.hash(), "simulator": core.simulator.weights_sha256}
            | {"denoising_steps": core.denoising_steps, "initial": None if initial is None else initial.sha256()},
        )
        if (checkpoint := self.folder.load_checkpoint()) is not None:
            self._restore(checkpoint)
        self.folder.rewind(self.step)
        self._pool: dict[int, WorldModelState] = {}  # by round

    @property
    def imagined_steps(self) -> int:
        """Frames imagined to learn from, so far."""
        return self.step * self.config.num_dreams * self.config.horizon

    @property
    def real_frames(self) -> int:
        """Recorded frames shown to the model to dream from, so far; a frame counts as often as it was shown."""
        shown = self.config.num_dreams + (self.step - 1) * self.config.refresh
        return shown * self.context if self.step else 0

    def run(self, evaluate: Callable[[ActorCritic], dict[str, float]] | None = None) -> ActorCritic:
        """Train until `config.updates`, from wherever the run folder stands; returns the actor-critic.

        Args:
            evaluate: Judges it, such as by SB3's `evaluate_policy` in the real environment: every `eval_every` updates
                and after the last. Its numbers are logged under their names.
        """
        config, recent = self.config, list[dict[str, float]]()
        with progress_bar() as bar:
            task = bar.add_task("imagine", total=config.updates, completed=self.step, status="")
            while self.step < config.updates:
                recent.append(self.train_step())
                last = self.step == config.updates
                if evaluate is not None and (last or self.step % config.eval_every == 0):
                    self.folder.log(self.step, evaluate(self.actor_critic))
                if last or self.step % config.log_every == 0:
                    logs = {k: float(np.mean([r[k] for r in recent])) for k in recent[0]}
                    recent.clear()
                    self.folder.log(self.step, logs | self._counts())
                    self.checkpoint()
                    bar.update(task, status=f"return {logs['return']:.3f}  spread {logs['spread']:.2f}")
                bar.update(task, completed=self.step)
        return self.actor_critic

    def train_step(self) -> dict[str, float]:
        """Take in some real contexts, dream from all, and learn from the dreams."""
        started = time.perf_counter()
        rng = torch.Generator(self.core.device).manual_seed(self.config.seed * 1_000_003 + self.step)
        logs = self._learn(self.dream(self._starts(), rng), rng)
        self.step += 1
        self.seconds += time.perf_counter() - started
        return logs

    @torch.no_grad()
    def dream(self, memory: WorldModelState, rng: torch.Generator) -> Dream:
        """Act for `horizon` steps in B imagined worlds that go on from `memory`."""
        numbers = torch.arange(memory.batch_size, device=self.core.device)
        keys = fold(fold(numbers, self.config.seed), self.step)
        feats, choices, rew, cont = [memory.feats], list[Tensor](), list[Tensor](), list[Tensor]()
        for _ in range(self.config.horizon):
            choices.append(self.actor_critic.policy(feats[-1]).sample(rng))
            frame, memory = self.core.imagine(memory, self.actor_critic.actions(choices[-1]), keys)
            feats.append(frame.feats)
            rew.append(frame.rew.float())
            cont.append(1 - frame.term_prob.float())
        return Dream(*(torch.stack(x) for x in (feats, choices, rew, cont)))

    def _learn(self, dream: Dream, rng: torch.Generator) -> dict[str, float]:
        """Gradient steps on a batch of dreams."""
        config, agent = self.config, self.actor_critic
        with torch.no_grad():
            values = self.slow_critic(dream.feats)
            returns = lambda_returns(dream.rew, dream.cont, values, config.gamma, config.lambda_)
            # A step counts by the chance that the world was still there: dreams go on beyond their end.
            alive = torch.cat([torch.ones_like(dream.cont[:1]), dream.cont[:-1]]).cumprod(0)
            low, high = torch.quantile(returns, torch.tensor([0.05, 0.95], device=returns.device)).tolist()
            decay = SCALE_DECAY if self.step else 0.0
            self.scale = decay * self.scale + (1 - decay) * (high - low)
            # Large returns are scaled down, but small ones not up: where nothing is to be had, that would be noise.
            advantages = (returns - values[:-1]) / max(1.0, self.scale)
            log_prob = agent.policy(dream.feats[:-1]).log_prob(dream.choice)
        parts = list[dict[str, Tensor]]()
        for _ in range(config.passes):
            order = torch.randperm(config.num_dreams, generator=rng, device=alive.device)
            for worlds in order.chunk(config.minibatches):
                feats, weight = dream.feats[:-1, worlds], alive[:, worlds]
                policy = agent.policy(feats)
                ratio = (policy.log_prob(dream.choice[:, worlds]) - log_prob[:, worlds]).exp()
                clipped = ratio.clamp(1 - config.clip_range, 1 + config.clip_range)
                gain = torch.minimum(ratio * advantages[:, worlds], clipped * advantages[:, worlds])
                spread = (weight * policy.spread()).sum().detach() / weight.sum()
                coef = self._entropy_coef(float(spread))
                actor_loss = -(weight * (gain + coef * policy.entropy())).mean()
                critic_loss = (weight * agent.critic.loss(feats, returns[:, worlds])).mean()
                self.optimizer.zero_grad()
                (actor_loss + critic_loss).backward()
                for part in (agent.actor, agent.critic):
                    torch.nn.utils.clip_grad_norm_(part.parameters(), config.clip)
                self.optimizer.step()
                self._average()
                parts.append(
                    {
                        "actor_loss": actor_loss.detach(),
                        "critic_loss": critic_loss.detach(),
                        "clipped": (ratio.detach() != clipped.detach()).float().mean(),
                        "spread": spread,
                        "entropy_coef": torch.tensor(coef),
                    }
                )
        logs = {name: float(torch.stack([part[name] for part in parts]).mean()) for name in parts[0]}
        return logs | {
            "reward": float((alive * dream.rew).sum(0).mean()),
            "return": float(returns[0].mean()),
            "value": float(values[0].mean()),
            "ended": float(1 - (alive[-1] * dream.cont[-1]).mean()),
            "scale": self.scale,
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

    @torch.no_grad()
    def _average(self) -> None:
        for slow, current in zip(self.slow_critic.parameters(), self.actor_critic.critic.parameters(), strict=True):
            slow.lerp_(current, 1 - self.config.slow)

    def _starts(self) -> WorldModelState:
        """The memories that this update's dreams begin with, of `num_dreams` contexts.

        Round r of contexts is a function of (seed, r), and update u dreams from the rounds from u on, as many as there
        is room for. So a run that is resumed has them again without keeping them.
        """
        rounds = range(self.step, self.step + self.config.num_dreams // self.config.refresh)
        self._pool = {r: self._pool[r] if r in self._pool else self._absorbed(r) for r in rounds}
        return WorldModelState.cat(list(self._pool.values()))

    def _absorbed(self, number: int) -> WorldModelState:
        """The memories of `refresh` contexts, those of a round."""
        config, core = self.config, self.core
        rng = np.random.default_rng([config.seed, number])
        ends, filled = rng.choice(self.points, config.refresh), 0
        for share, points in ((config.event_share, self.eventful), (config.start_share, self.beginnings)):
            if len(points) and (count := min(round(share * config.refresh), config.refresh - filled)):
                ends[filled : filled + count] = rng.choice(points, count)
                filled += count
        index = ends[:, None] + np.arange(1 - self.context, 1)  # (refresh, T)
        is_first = self.dataset.is_first[index]
        is_first[:, 0] = True
        act, first = (torch.from_numpy(x).to(core.device) for x in (self.dataset.act[index], is_first))
        return core.update_memory(core.initial_memory(config.refresh), self.dataset.obs[index], act, first)

    def _counts(self) -> dict[str, float]:
        return {"imagined_steps": self.imagined_steps, "real_frames": self.real_frames, "seconds": self.seconds}

    def checkpoint(self) -> None:
        """Write everything that `run` needs to go on as if it had never stopped, and the policy for others to use."""
        self.actor_critic.save(self.config.out / POLICY)
        self.folder.save_checkpoint(
            {
                "step": self.step,
                "seconds": self.seconds,
                "scale": self.scale,
                "actor_critic": self.actor_critic.state_dict(),
                "slow_critic": self.slow_critic.state_dict(),
                "optimizer": self.optimizer.state_dict(),
            }
        )

    def _restore(self, checkpoint: dict[str, Any]) -> None:
        for name in ("step", "seconds", "scale"):
            setattr(self, name, checkpoint[name])
        for name in ("actor_critic", "slow_critic", "optimizer"):
            getattr(self, name).load_state_dict(checkpoint[name])


def largest_return(dataset: EpisodeDataset, gamma: float) -> float:
    """The largest discounted return from any recorded frame on, in size; 1 where there were no rewards."""
    following, largest = 0.0, 0.0
    for rew, first in zip(dataset.rew[::-1].tolist(), dataset.is_first[::-1].tolist(), strict=True):
        following = rew + gamma * following
        largest, following = max(largest, abs(following)), 0.0 if first else following
    return largest or 1.0


def _check_same_shape(found: ActorCriticConfig, wanted: ActorCriticConfig) -> None:
    """Raise if weights of one actor-critic do not fit another; whose features it was trained on does not matter."""
    theirs, ours = ({k: v for k, v in asdict(c).items() if k != "weights_sha256"} for c in (found, wanted))
    if differing := [f"{name} {theirs[name]}, not {ours[name]}" for name in ours if theirs[name] != ours[name]]:
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
    episode, events = dataset.is_first.cumsum(), dataset.events
    following = np.append(events, len(dataset))[np.searchsorted(events, frames, side="right")]  # after each frame
    soon = (following - frames <= horizon) & (following < len(dataset))
    soon &= episode[following.clip(max=len(dataset) - 1)] == episode
    return frames[possible], frames[possible & soon]
