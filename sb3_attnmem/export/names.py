"""Names of inputs, outputs and metadata in an exported file, for its writer and its reader. Standard library only."""

#: version of the format; it changes when readers of the old one cannot play files of the new one
FORMAT = "1"

OBSERVATION = "observation"  # of a Dict: "observation.KEY", one input a key
EPISODE_START = "episode_start"
Q_VALUES = "q_values"
QUANTILES = "quantiles"  # of agents that have them, beside their means, the Q-values
LOGITS = "logits"  # of actors: of each choice, those of a MultiDiscrete one after the other
MEANS = "means"  # of actors with continuous actions, flat, before squashing and clipping
DEVIATIONS = "deviations"  # beside the means: standard deviations
STATE = "state."  # "state.h"
NEXT_STATE = "next_state."  # "next_state.h"

# The file's metadata: text, JSON but for the first three
FORMAT_KEY = "sb3_attnmem.format"
VERSION_KEY = "sb3_attnmem.version"
ALGORITHM_KEY = "sb3_attnmem.algorithm"
OBSERVATION_SPACE_KEY = "sb3_attnmem.observation_space"
ACTION_SPACE_KEY = "sb3_attnmem.action_space"
MEMORY_KEY = "sb3_attnmem.memory"
ACTION_MASKS_KEY = "sb3_attnmem.action_masks"  # "none", "env", "info" or the key of an observation
BRANCHING_KEY = "sb3_attnmem.branching"
SQUASHED_KEY = "sb3_attnmem.squash_output"  # whether means go through tanh to the bounds of the action space
NORMALIZED_KEY = "sb3_attnmem.vec_normalize"


def observation_name(key: str | None) -> str:
    """
    :param key: of a Dict observation, None where there is but one
    :return: the name of the graph's input
    """
    return OBSERVATION if key is None else f"{OBSERVATION}.{key}"
