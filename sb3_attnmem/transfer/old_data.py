"""Going on with new data, and a fixed share of the old in each batch."""

from sb3_attnmem.dqn_recurrent import RecurrentDQN
from sb3_attnmem.replay import MixedSequenceReplayBuffer


def keep_old_data(model: RecurrentDQN, old_share: float = 0.5) -> None:
    """
    From now on what the replay buffer holds is old: nothing is added to it, and it makes up a fixed share of each
    batch; what ``learn`` collects goes into a buffer of the same size beside it. Called again, the present data become
    old as well, and all old parts have equal parts of the share. ``save_replay_buffer`` saves both.

    :param model: whose replay buffer holds something
    :param old_share: of each batch, in (0, 1); or 0: the old data are dropped
    :raises ValueError: when the buffer is empty, or the share makes no sense
    """
    buffer = model.replay_buffer
    assert buffer is not None
    if not 0 <= old_share < 1:
        raise ValueError(
            f"old_share={old_share} must be at least 0 and below 1 (0.5: half of each batch is old); for old data "
            "alone call learn_offline instead."
        )
    olds = [part for part in buffer.parts if not part.is_empty]
    if not olds:
        raise ValueError("The replay buffer is empty: there is no old data to keep.")
    options = {**model.sequence_options(), **model.replay_buffer_kwargs}
    new = type(buffer.parts[-1])(
        model.buffer_size, model.observation_space, model.action_space, model.device, model.n_envs, **options
    )
    new.seed(int(buffer.rng.integers(2**31)))
    model.replay_buffer = MixedSequenceReplayBuffer(new, olds, old_share) if old_share else new
    for old in olds:
        old.cut()
    # The next `learn` begins with an episode, in the new buffer
    model.interrupt()
