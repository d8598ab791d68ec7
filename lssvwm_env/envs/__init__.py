"""One core with three faces: `gymnasium.Env`, `VectorEnv` and Stable-Baselines3's `VecEnv`."""
