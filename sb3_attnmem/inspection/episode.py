"""Episodes of an agent, and what its attention did in them."""

from collections.abc import Callable, Sequence
from enum import EnumMeta
from typing import Any, NamedTuple

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecMonitor, is_vecenv_wrapped

from sb3_attnmem.attention import record_attention
from sb3_attnmem.inspection.acting import rows_of
from sb3_attnmem.inspection.observed import Observed, Picture, shrunk
from sb3_attnmem.inspection.opinions import Opinion, opinion_of
from sb3_attnmem.inspection.views import Heads, View, view_of

#: Pixels along a side of a rendered picture that is kept
LARGEST = 320


class Look(NamedTuple):
    """
    One step.

    :param render: the environment's own picture; None where it makes none
    :param pictures: key -> the image in the observation ("" where the observation is no Dict)
    :param table: the numbers of an observation without images
    :param weights: layer -> its numbers, see :class:`~sb3_attnmem.inspection.views.View`
    :param opinion: what the agent expected
    :param action: that it took
    :param reward: that this brought
    :param total: of the rewards of this episode so far, this one included
    :param starts: whether the agent is told that an episode begins (after a lost life, too)
    :param n_episode: its number, from 0 on
    """

    render: Picture | None
    pictures: dict[str, Picture]
    table: np.ndarray | None
    weights: dict[str, np.ndarray]
    opinion: Opinion
    action: np.ndarray
    reward: float
    total: float
    starts: bool
    n_episode: int


class Episodes(NamedTuple):
    """
    :param looks: its steps
    :param views: how the layers are drawn
    :param layers: the names of all layers that recorded, those left out too
    :param keys: layer -> the key of the image that its map lies over
    :param returns: of the episodes, the last one's too where it was cut
    :param over: whether the last one ended, rather than being cut
    """

    looks: list[Look]
    views: list[View]
    layers: list[str]
    keys: dict[str, str]
    returns: list[float]
    over: bool


def play_episodes(
    model: BaseAlgorithm,
    env: VecEnv,
    layers: Sequence[str] | None,
    most_layers: int,
    heads: Heads,
    episodes: int,
    max_steps: int,
    seed: int,
    deterministic: bool,
    tick: Callable[[], Any],
) -> Episodes:
    """
    :param model: the agent
    :param env: that fits it; the first environment is looked at
    :param layers: names, or parts of names; None for the first ``most_layers``
    :param most_layers: see there
    :param heads: see :func:`~sb3_attnmem.inspection.views.view_of`
    :param episodes: to play one after another
    :param max_steps: of all of them, after which the last one is cut
    :param seed: of the reset
    :param deterministic: whether to act greedily
    :param tick: called after each step
    :return: the episodes
    :raises ValueError: when the model has no attention layers, or no such one
    """
    observed = Observed(model.observation_space)
    monitored = is_vecenv_wrapped(env, VecMonitor) or any(env.env_is_wrapped(Monitor))
    looks: list[Look] = []
    views: dict[str, View] = {}
    keys: dict[str, str] = {}
    with record_attention(model) as record:
        env.seed(seed)
        observation: Any = env.reset()
        state: Any = None
        starts, over = np.ones(env.num_envs, bool), False
        returns = [0.0]
        while len(looks) < max_steps:
            before, was_start = state, starts
            actions, state = model.predict(observation, state, starts, deterministic)
            opinion = opinion_of(model, observation, before, starts, actions)
            weights = {}
            for layer in list(views) or chosen_layers(list(record), layers, most_layers):
                views[layer], weights[layer] = view_of(record, layer, heads)
            first = rows_of(observation, 0)
            if not looks:
                keys = _keys(observed, views)
            pictures = _pictures(observed, first, views, keys)
            table = None if pictures or observed.table_key is None else observed.table(first)
            render = _render(env)
            observation, rewards, starts, infos = env.step(actions)
            returns[-1] += float(rewards[0])
            looks.append(
                Look(
                    render,
                    pictures,
                    table,
                    weights,
                    opinion,
                    np.asarray(actions[0]),
                    float(rewards[0]),
                    returns[-1],
                    bool(was_start[0]),
                    len(returns) - 1,
                )
            )
            tick()
            # A lost life may end an episode while the game goes on: the Monitor knows
            over = bool(starts[0]) and (not monitored or "episode" in infos[0])
            if over and len(returns) == episodes:
                break
            if over and len(looks) < max_steps:
                returns.append(0.0)
        return Episodes(looks, list(views.values()), list(record), keys, returns, over)


def chosen_layers(recorded: list[str], wanted: Sequence[str] | None, most: int) -> list[str]:
    """
    :param recorded: the layers that were called
    :param wanted: names, or parts of names; None for all
    :param most: where nothing is wanted in particular
    :return: the layers to show
    :raises ValueError: when a name is unknown, or no layer was called
    """
    if not recorded:
        raise ValueError("None of the model's attention layers was called when it acted: there is nothing to show.")
    if wanted is None:
        return recorded[:most]
    found = []
    for word in wanted:
        fitting = [name for name in recorded if word == name] or [name for name in recorded if word in name]
        if not fitting:
            raise ValueError(f"The model has no attention layer '{word}'. Layers: {', '.join(recorded)}.")
        found += fitting
    return list(dict.fromkeys(found))


def _keys(observed: Observed, views: dict[str, View]) -> dict[str, str]:
    found = {}
    for layer, view in views.items():
        key = None if view.grid is None else observed.key_of(view.grid, layer)
        if key is not None:
            found[layer] = key
    return found


def _pictures(observed: Observed, first: Any, views: dict[str, View], keys: dict[str, str]) -> dict[str, Picture]:
    """:return: those that maps lie over; without any, the first image there is"""
    grids = {keys[layer]: views[layer].grid for layer in keys} or dict.fromkeys(list(observed.images)[:1])
    return {key: observed.picture(first, key, grid) for key, grid in grids.items()}


def _render(env: VecEnv) -> Picture | None:
    if env.render_mode != "rgb_array":
        return None
    picture = env.get_images()[0]
    if picture is None or np.ndim(picture) != 3:
        return None
    return shrunk(np.asarray(picture, np.uint8)[..., :3], LARGEST)


def action_names(env: VecEnv, n_actions: int) -> tuple[str, ...]:
    """
    :param env: whose first environment may have names (Atari, MiniGrid)
    :param n_actions: A
    :return: of each action; numbers where there are none
    """
    numbers = tuple(map(str, range(n_actions)))
    base = env.unwrapped
    if not isinstance(base, DummyVecEnv):  # a worker process that lacks an attribute dies of the question
        return numbers
    one: Any = base.envs[0].unwrapped
    names: Sequence[Any] = ()
    if hasattr(one, "get_action_meanings"):
        names = one.get_action_meanings()
    elif isinstance(getattr(one, "actions", None), EnumMeta):
        names = [getattr(action, "name", action) for action in one.actions]
    if len(names) != n_actions:
        return numbers
    return tuple(f"{i} {str(name).lower()}" for i, name in enumerate(names))
