"""Training a world model: losses, objectives, optimizers, and the trainer."""
