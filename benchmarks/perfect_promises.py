"""How well could promises be kept at all? Reality itself makes them here, in the place of dreams.

    python benchmarks/perfect_promises.py
    python benchmarks/perfect_promises.py --worlds LSSVWM/MiniGrid-Dynamic-Obstacles-6x6-v0 --copies 32

A bundled policy plays real episodes. At every step the real environment is copied, chance that is still to come drawn
anew, and the policy goes on in the copies. The mean of what they pay is what a perfect simulator would promise, one
that even knows what was not seen yet. Its rank correlation with what was then paid is about the most that the promises
of `lssvwm judge` can have, up to the number of copies: the rest is chance. Written into benchmarks/records/agents/.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import gymnasium as gym
import numpy as np
import records_io
import torch
import tyro
from gymnasium.wrappers import TimeLimit
from numpy.typing import NDArray

from lssvwm_agents.judging.outcomes import rank_correlation
from lssvwm_agents.planning.follow_policy import FollowPolicy
from lssvwm_agents.planning.mpc import MPCAgent, MPCState
from lssvwm_agents.planning.protocols import Budget
from lssvwm_agents.policies.actor_critic import ActorCritic, bundled_policy
from lssvwm_agents.policies.returns import discounted_returns
from lssvwm_env.envs.core import SimulatorCore
from lssvwm_env.real import make_real
from lssvwm_env.simulator.simulator import Simulator
from lssvwm_models.data.splits import SPLITS
from lssvwm_models.execution.noise import fold
from lssvwm_models.memory.state import WorldModelState

OUT: Final = Path(__file__).parent / "records" / "agents"
NAMES: Final = ("MemoryS9", "MemoryS13", "DoorKey-6x6", "LavaCrossingS9N1", "Dynamic-Obstacles-6x6")

Env = gym.Env[Any, Any]


@dataclass
class Args:
    """What to measure.

    Attributes:
        worlds: Simulators with a bundled policy.
        episodes: Real ones, the first of the test split.
        copies: Of each moment.
        deterministic: Let the policy take its likeliest actions.
        gamma: Discount per step.
        num_envs: Episodes whose moments are played on side by side.
        threads: CPU threads.
        seed: Of what the policy draws, and of the chance in the copies.
    """

    worlds: tuple[str, ...] = tuple(f"LSSVWM/MiniGrid-{name}-v0" for name in NAMES)
    episodes: int = 200
    copies: int = 8
    deterministic: bool = False
    gamma: float = 0.99
    num_envs: int = 16
    threads: int = 1
    seed: int = 0


def follower(simulator: Simulator, args: Args) -> Callable[[int], MPCAgent]:
    """The bundled policy, with a seed, which remembers what it sees; its dreams are as short as can be, as nobody asks
    for them."""
    policy = ActorCritic.load(bundled_policy(simulator.config.env_id), simulator)
    core, planner = SimulatorCore(simulator, 1, 1, bf16=True), FollowPolicy(policy, args.gamma, args.deterministic)
    return lambda seed: MPCAgent(core, planner, 1, Budget(1), seed)


def paid_on(
    agent: MPCAgent, envs: list[Env], state: MPCState, actions: NDArray[Any], gamma: float
) -> NDArray[np.float64]:
    """The discounted rewards of worlds from an action on, whatever the agent does after it."""
    paid, going, weight = np.zeros(len(envs)), np.arange(len(envs)), 1.0
    while len(going):
        seen, on = [], []
        for row, (world, action) in enumerate(zip(going, actions, strict=True)):
            obs, reward, terminated, truncated, _ = envs[world].step(action)
            paid[world] += weight * float(reward)
            if not (terminated or truncated):
                seen.append(obs)
                on.append(row)
        going, weight = going[on], gamma * weight
        if on:
            actions, state = agent.predict(np.stack(seen), state[torch.tensor(on)])
    return paid


def copied(env: Env, seed: list[int]) -> Env:
    """A world that is the same now, and in which chance may fall otherwise from now on."""
    twin = copy.deepcopy(env)
    twin.unwrapped.np_random = np.random.default_rng(seed)
    return twin


def moments(
    agent: MPCAgent, env: Env, number: int, args: Args
) -> tuple[list[Env], list[MPCState], list[int], NDArray[np.float64]]:
    """An episode: copies of every moment of it; and of each moment the agent's state and action, and what was paid from
    there on."""
    obs, _ = env.reset(seed=SPLITS["test"][number])
    envs, states, actions, rewards = list[Env](), list[MPCState](), list[int](), list[float]()
    state, over = None, False
    while not over:
        action, state = agent.predict(obs[None], state)
        envs += [copied(env, [args.seed, number, len(rewards), i]) for i in range(args.copies)]
        states.append(state)
        actions.append(int(action[0]))
        obs, reward, terminated, truncated, _ = env.step(action[0])
        rewards.append(float(reward))
        over = terminated or truncated
    return envs, states, actions, discounted_returns(np.array(rewards), args.gamma)


def measure(world: str, args: Args) -> dict[str, Any]:
    """What reality promises in a world, and how far that is kept."""
    simulator = Simulator.load(world)
    real, promised, paid = simulator.config, list[float](), list[float]()
    agent = follower(simulator, args)
    for first in range(0, args.episodes, args.num_envs):
        envs, states, actions = list[Env](), list[MPCState](), list[int]()
        for number in range(first, min(first + args.num_envs, args.episodes)):
            env = TimeLimit(make_real(real.env_id, **real.env_kwargs), real.horizon)
            found = moments(agent(args.seed + number), env, number, args)
            envs, states, actions = envs + found[0], states + found[1], actions + found[2]
            paid += found[3].tolist()
        state, acts = forked(states, args.copies), np.repeat(actions, args.copies)
        returns = paid_on(agent(args.seed), envs, state, acts, args.gamma)
        promised += returns.reshape(-1, args.copies).mean(1).tolist()
    return {
        "simulator": world,
        "env_id": real.env_id,
        "args": asdict(args),
        "moments": len(paid),
        "rank_correlation": rank_correlation(np.array(promised), np.array(paid)),
    }


def forked(states: list[MPCState], copies: int) -> MPCState:
    """So many copies of each of the states of one world, with chances of their own."""
    memory = WorldModelState.cat([s.memory for s in states])
    rest = {name: torch.cat([getattr(s, name) for s in states]) for name in vars(states[0]) if name != "memory"}
    all_of_them = MPCState(memory, **rest)[torch.arange(len(states)).repeat_interleave(copies)]
    return replace(all_of_them, keys=fold(all_of_them.keys, 1 + torch.arange(copies).repeat(len(states))))


def main(args: Args) -> None:
    """Measure, print and write."""
    torch.set_num_threads(args.threads)
    for world in args.worlds:
        record = measure(world, args)
        name = f"perfect-promises-{record['env_id']}{'-likeliest' if args.deterministic else ''}.json"
        records_io.write(OUT / name, record)
        print(f"{record['env_id']}: {record['rank_correlation']:.3f} at {record['moments']:,} moments", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Args))
