"""One page on which episodes are played: frames, attention, values and memory, step by step."""
