"""Simulators as environments: here a trained model becomes something to step in.

`core.py` moves B simulated worlds at once and is the only module that asks the model for frames. Three faces show it as
others expect: `env.py` as `gymnasium.Env`, `vector.py` as Gymnasium's `VectorEnv`, `sb3.py` as Stable-Baselines3's
`VecEnv`; they share `observations.py` and dream the same. `arguments.py` checks what users hand in before anything
changes, and `turns.py` that one thread at a time moves worlds. `wrappers.py` has Gymnasium wrappers.
"""
