"""How much a replay buffer may hold: at least a sequence an environment, at most what fits into the free memory."""

import math

import psutil

from sb3_attnmem.replay.tapes import Tapes

#: States are stored at most this many steps apart unless ``state_interval`` says otherwise
MAX_STATE_INTERVAL = 8


def choose_state_interval(state_interval: int | None, sequence_length: int, burn_in: int) -> int:
    """
    Choose how many steps apart states are stored.

    :param state_interval: that the user gave
    :param sequence_length: learning steps of a window
    :param burn_in: steps before it
    :return: the same; for None the largest divisor of both lengths up to 8
    :raises ValueError: when it does not divide both
    """
    common = math.gcd(sequence_length, burn_in)
    divisors = [d for d in range(1, common + 1) if common % d == 0]
    if state_interval is None:
        return max(d for d in divisors if d <= MAX_STATE_INTERVAL)
    if isinstance(state_interval, bool) or state_interval not in divisors:
        raise ValueError(
            f"state_interval={state_interval} must divide sequence_length={sequence_length} and burn_in={burn_in}; "
            f"the divisors to choose from are {divisors}."
        )
    return int(state_interval)


def check_room(buffer_size: int, n_envs: int, needed: int) -> None:
    """
    Check that each environment has room for a sequence.

    :param buffer_size: transitions an environment
    :param n_envs: number of environments
    :param needed: steps of one sequence, burn-in included
    :raises ValueError: when there is less room than one sequence an environment
    """
    if buffer_size < needed:
        raise ValueError(
            f"buffer_size={buffer_size * n_envs} gives each of {n_envs} environments room for {buffer_size} "
            f"transitions, fewer than one sequence (burn_in + sequence_length = {needed}). "
            f"Set buffer_size to at least {needed * n_envs}; many times more is usual."
        )


def check_memory(smallest: Tapes, buffer_size: int) -> None:
    """
    Check that there is memory for a replay buffer, before it is asked for.

    :param smallest: tapes with room for one transition; numpy refuses what is far too big without a word on how to
        mend it, so that the size is told before it is asked for
    :param buffer_size: transitions an environment that shall be stored
    :raises ValueError: when they take more than the free memory
    """
    n_envs = smallest.n_envs
    nbytes = smallest.nbytes // smallest.n_blocks * (-(-buffer_size // smallest.block) + 1)
    free = psutil.virtual_memory().available
    if nbytes > free:
        of_states = sum(array.nbytes for array in smallest.states) / smallest.nbytes
        hint = f" {of_states:.0%} of it are the memory's states: state_init='zero' stores none." * (of_states > 0.5)
        raise ValueError(
            f"A replay buffer of buffer_size={buffer_size * n_envs} transitions takes "
            f"{nbytes / 1e9:.2f} GB, but {free / 1e9:.2f} GB of memory are free. "
            f"Set buffer_size to at most {int(0.9 * free / nbytes * buffer_size) * n_envs}.{hint}"
        )
