"""From pre-training to fine-tuning: other agents' weights, and what of a model learns."""
