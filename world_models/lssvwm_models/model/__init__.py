"""The world model: tokens, blocks, heads, odometry and the sampler."""
