"""``sb3-attnmem train``: rl_zoo3's program, with checkpoints, pretrained agents and data to learn from."""
