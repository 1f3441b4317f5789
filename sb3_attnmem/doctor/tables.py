"""Episodes as tables: what predictors see, and what they predict."""

import numpy as np
import torch as th
from gymnasium import spaces

from sb3_attnmem.doctor.playing import UNIFORM, Play
from sb3_attnmem.doctor.predictors import Targets, Windows

#: of a discounted return-to-go
GAMMA = 0.95
#: principal components of an observation that predictors see, and actions that have a head of their own
LARGEST_VECTOR, MOST_HEADS = 12, 32
#: steps from the episode's start that the clock tells apart, which every predictor is given
CLOCK = 128


def discounted_returns(play: Play) -> np.ndarray:
    """
    :param play: episodes
    :return: (N,) sum of discounted rewards from each step on, to the end of its episode
    """
    returns, ahead = np.zeros(play.n_steps), 0.0
    for i in range(play.n_steps - 1, -1, -1):
        last = i + 1 == play.n_steps or play.episodes[i + 1] != play.episodes[i]
        ahead = play.rewards[i] + (0.0 if last else GAMMA * ahead)
        returns[i] = ahead
    return returns


def return_is_known(play: Play) -> np.ndarray:
    """
    Tell where a return to go depends on the present alone, given the world's state: what comes later must not be chosen
    by what came before, and what a time limit cut off must weigh little.

    :param play: episodes
    :return: (N,) bool
    """
    lengths, ended = play.lengths(), np.zeros(play.n_episodes, dtype=bool)
    ended[play.episodes[play.terminated]] = True
    left = lengths[play.episodes] - play.times
    return (play.behaviours[play.episodes] == UNIFORM) & (ended[play.episodes] | (left > 3 / (1 - GAMMA)))


def _standard(values: th.Tensor, known: th.Tensor) -> th.Tensor:
    shown = values[known]
    deviation = shown.std() if len(shown) > 1 else th.tensor(0.0)
    if not deviation > 1e-6 * max(1.0, float(shown.abs().max())):
        return th.zeros_like(values)
    return (values - shown.mean()) / deviation * known


def code_observations(play: Play, rows: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
    """
    Write observations as a few numbers: their principal components, where they are many.

    :param play: episodes
    :param rows: (n,) steps that the components are found from
    :return: (N, M) what is seen, and what is seen next, each number of variance 1
    """
    seen, following = th.as_tensor(play.observations), th.as_tensor(play.successors)
    mean, deviation = seen[rows].mean(0), seen.std(0)
    varies = deviation > 1e-6 * seen.abs().amax(0).clamp(min=1.0)
    if not varies.any():
        return th.zeros(len(seen), 1), th.zeros(len(seen), 1)
    seen, following = seen[:, varies] - mean[varies], following[:, varies] - mean[varies]
    spread = deviation[varies]
    if spread.max() > 10 * spread.min():
        seen, following = seen / spread, following / spread  # of different units
    if seen.shape[1] > LARGEST_VECTOR:
        some = rows[th.linspace(0, len(rows) - 1, min(len(rows), 4_000)).long()]
        with th.random.fork_rng(devices=[]):
            th.manual_seed(0)
            axes = th.pca_lowrank(seen[some], q=LARGEST_VECTOR, niter=4)[2]
        seen, following = seen @ axes, following @ axes
    deviation = seen.std(0).clamp(min=1e-6)
    return seen / deviation, following / deviation


def make_targets(play: Play, seen: th.Tensor, following: th.Tensor) -> Targets:
    """
    :param play: episodes
    :param seen: (N, M) before each step
    :param following: (N, M) after it
    :return: reward, termination, return to go and the change of the observation
    """
    everywhere = th.ones(play.n_steps, dtype=th.bool)
    not_cut = th.as_tensor(~play.truncated)
    for_return = th.as_tensor(return_is_known(play))
    change = following - seen
    columns = [
        _standard(th.as_tensor(play.rewards).float(), everywhere),
        _standard(th.as_tensor(play.terminated).float(), not_cut),
        _standard(th.as_tensor(discounted_returns(play)).float(), for_return),
        *(_standard(column, everywhere) for column in change.T),
    ]
    known = [everywhere, not_cut, for_return, *([everywhere] * change.shape[1])]
    blocks = {
        "reward": slice(0, 1),
        "termination": slice(1, 2),
        "return": slice(2, 3),
        "observation": slice(3, len(columns)),
    }
    return Targets(th.stack(columns, 1), th.stack(known, 1).float(), blocks)


def make_windows(play: Play, seen: th.Tensor, action_space: spaces.Space) -> tuple[Windows, th.Tensor, int]:
    """
    :param play: episodes
    :param seen: (N, M)
    :param action_space: of the environment
    :return: features, the head of each step, and how many heads there are
    """
    times = th.as_tensor(play.times)
    longest = int(times.max()) + 1
    # A clock, so that what only tells the time is not taken for memory
    clock = th.nn.functional.one_hot(times.clamp(max=CLOCK - 1), min(CLOCK, longest)).float()
    now = th.cat([seen, clock, (times / longest)[:, None], th.log1p(times)[:, None]], dim=1)
    heads, n_heads = th.zeros(play.n_steps, dtype=th.long), 1
    if isinstance(action_space, spaces.Discrete) and action_space.n <= MOST_HEADS:
        heads, n_heads = th.as_tensor(play.actions - action_space.start).long(), int(action_space.n)
        done = th.nn.functional.one_hot(heads, n_heads).float()
    else:
        flat = [np.ravel(np.asarray(spaces.flatten(action_space, action))) for action in play.actions]
        done = th.as_tensor(np.stack(flat), dtype=th.float32)
        now = th.cat([now, done], dim=1)
    return Windows(th.cat([seen, done], dim=1), now, times, seen.shape[1]), heads, n_heads
