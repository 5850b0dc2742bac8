"""Training: the pure step, the one loop, checkpoints and metrics."""
