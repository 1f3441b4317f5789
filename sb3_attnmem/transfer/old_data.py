"""Going on with new data, and a fixed share of the old in each batch."""

from sb3_attnmem.common.checks import check_number
from sb3_attnmem.dqn_recurrent import RecurrentDQN
from sb3_attnmem.replay import MixedSequenceReplayBuffer
from sb3_attnmem.transfer.arguments import buffer_of


def keep_old_data(model: RecurrentDQN, old_share: float = 0.5) -> None:
    """
    From now on what the replay buffer holds is old: nothing is added to it, and it makes up a fixed share of each
    batch; what ``learn`` collects goes into a buffer of the same size beside it. Called again, the present data become
    old as well, and all old parts have equal parts of the share. ``save_replay_buffer`` saves both.

    :param model: whose replay buffer holds something
    :param old_share: of each batch, in (0, 1); or 0: the old data are dropped
    :raises ValueError: when the buffer is empty, or the share makes no sense
    """
    buffer = buffer_of(model)
    check_old_share(old_share)
    olds = [part for part in buffer.parts if not part.is_empty]
    if not olds:
        raise ValueError("The replay buffer is empty: there is no old data to keep.")
    options = {**model.sequence_options(), **model.replay_buffer_kwargs}
    new = type(buffer.parts[-1])(
        model.buffer_size, model.observation_space, model.action_space, model.device, model.n_envs, **options
    )
    following = MixedSequenceReplayBuffer(new, olds, old_share) if old_share else new
    # Nothing can fail from here on
    new.seed(int(buffer.rng.integers(2**31)))
    model.replay_buffer = following
    for old in olds:
        old.cut()
    # The next `learn` begins with an episode, in the new buffer
    model.interrupt()


def check_old_share(old_share: float) -> float:
    """
    Check a share of old data.

    :param old_share: of each batch
    :return: the same
    :raises ValueError: when it is no share
    """
    hint = "It is the share of each batch that is old (0.5: half of it); for old data alone call learn_offline instead."
    return check_number("old_share", old_share, least=0, below=1, hint=hint)
