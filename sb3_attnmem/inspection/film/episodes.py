"""Episodes of an agent, and what its attention did in them."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from enum import EnumMeta
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sb3_attnmem.attention import AttentionLayer, AttentionRecord, record_attention
from sb3_attnmem.common.observations import copy_observation, rows_of
from sb3_attnmem.dqn_recurrent import MaskedPlayer, playing_masked
from sb3_attnmem.inspection.common import play
from sb3_attnmem.inspection.film.estimates import Estimate, bars_of, estimate_of
from sb3_attnmem.inspection.film.views import Heads, View, chosen_layers, view_of
from sb3_attnmem.inspection.observed import Observed, shapes_read, shrunk

#: Pixels along a side of a rendered picture that is kept
LARGEST = 320


class Seen(NamedTuple):
    """
    What there is to see before the agent acts.

    :param render: the environment's own picture, (height, width, 3) uint8; None where it makes none
    :param pictures: key -> the image in the observation ("" where the observation is no Dict)
    :param table: the numbers of an observation without images
    :param weights: layer -> its numbers, see :class:`~sb3_attnmem.inspection.film.views.View`
    :param estimate: what the agent expected
    :param observation: as the agent was given it
    :param valid: (A,) bool, the actions that were valid; None: all were
    """

    render: np.ndarray | None
    pictures: dict[str, np.ndarray]
    table: np.ndarray | None
    weights: dict[str, np.ndarray]
    estimate: Estimate
    observation: Any
    valid: np.ndarray | None


class FilmStep(NamedTuple):
    """
    One step.

    :param seen: before it
    :param action: that the agent took
    :param reward: that this brought
    :param total: of the rewards of this episode so far, this one included
    :param starts: whether the agent is told that an episode begins (after a lost life, too)
    :param n_episode: its number, from 0 on
    :param bars: of the estimate, that belong to the action; none where bars are components of actions
    """

    seen: Seen
    action: np.ndarray
    reward: float
    total: float
    starts: bool
    n_episode: int
    bars: tuple[int, ...]


class FilmedEpisodes(NamedTuple):
    """
    What an agent did, and how its attention is drawn.

    :param steps: of all episodes
    :param views: how the layers are drawn
    :param layers: the names of all layers that recorded, those left out too
    :param keys: layer -> the key of the image that its map lies over
    :param returns: of the episodes, the last one's too where it was cut
    :param over: whether the last one ended, rather than being cut
    """

    steps: list[FilmStep]
    views: list[View]
    layers: list[str]
    keys: dict[str, str]
    returns: list[float]
    over: bool


def film_episodes(
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
    needs_layers: bool = True,
) -> FilmedEpisodes:
    """
    Play episodes and keep what the agent saw and where it looked.

    :param model: the agent
    :param env: that fits it; the first environment is looked at
    :param layers: names, or parts of names; None for the first ``most_layers``
    :param most_layers: that are shown where none is asked for
    :param heads: see :func:`~sb3_attnmem.inspection.film.views.view_of`
    :param episodes: to play one after another
    :param max_steps: of all of them, after which the last one is cut
    :param seed: of the reset
    :param deterministic: whether to act greedily
    :param tick: called after each step
    :param needs_layers: whether there must be something that attends
    :return: the episodes
    :raises ValueError: when the model has no such attention layer, or none and ``needs_layers``
    """
    records = needs_layers or has_attention(model)
    recording: AbstractContextManager[Mapping[str, Any]] = record_attention(model) if records else nullcontext({})
    with recording as record, playing_masked(model, env) as player:
        camera = _Camera(model, player, env, record, layers, most_layers, heads, deterministic)
        steps: list[FilmStep] = []
        returns, over = [0.0], False
        for step in islice(play(env, camera.act, seed), max_steps):
            if over:
                returns.append(0.0)
            reward, over = float(step.rewards[0]), bool(step.over[0])
            returns[-1] += reward
            action = np.array(step.actions[0])
            steps.append(
                FilmStep(
                    *(step.kept, action, reward, returns[-1]),
                    starts=bool(step.starts[0]),
                    n_episode=len(returns) - 1,
                    bars=bars_of(model, action),
                )
            )
            tick()
            if over and len(returns) == episodes:
                break
        return FilmedEpisodes(steps, list(camera.views.values()), list(record), camera.keys, returns, over)


def has_attention(model: BaseAlgorithm) -> bool:
    """
    Tell whether there is something to record.

    :param model: an agent
    :return: whether any part of it attends
    """
    return any(isinstance(module, AttentionLayer) for module in model.policy.modules())


class _Camera:
    """
    Acts, and keeps what the agent saw and where it looked.

    :param model: the agent
    :param player: that acts in its place, with the environment's action masks
    :param env: that it plays in
    :param record: of its attention, open; empty where nothing attends
    :param layers: names, or parts of names; None for the first ``most_layers``
    :param most_layers: that are shown where none is asked for
    :param heads: what becomes of several heads
    :param deterministic: whether to act greedily
    """

    def __init__(
        self,
        model: BaseAlgorithm,
        player: MaskedPlayer,
        env: VecEnv,
        record: Mapping[str, Any],
        layers: Sequence[str] | None,
        most_layers: int,
        heads: Heads,
        deterministic: bool,
    ) -> None:
        self.player = player
        self.model, self.env, self.record, self.deterministic = model, env, record, deterministic
        self.layers, self.most_layers, self.heads = layers, most_layers, heads
        self.observed = Observed(model.observation_space, shapes_read(model.policy))
        self.state: Any = None
        self.views: dict[str, View] = {}
        self.keys: dict[str, str] = {}

    def act(self, observations: Any, starts: np.ndarray) -> tuple[np.ndarray, Seen]:
        before = self.state
        actions, self.state = self.player.predict(observations, before, starts, self.deterministic)
        valid = self.player.valid_at(observations)
        estimate = estimate_of(self.model, observations, before, starts, actions, valid)
        is_first = not self.views
        weights = {}
        if isinstance(self.record, AttentionRecord):
            names = chosen_layers(list(self.record), self.layers, self.most_layers) if is_first else list(self.views)
            for name in names:
                self.views[name], weights[name] = view_of(self.record, name, self.heads)
        _check_finite(estimate, weights)
        if is_first:
            self.keys = self._keys()
        first = rows_of(observations, 0)
        pictures = self._pictures(first)
        table = None if pictures or self.observed.table_key is None else self.observed.table(first)
        allowed = None if valid is None else np.array(valid[0], bool)
        return actions, Seen(_render(self.env), pictures, table, weights, estimate, copy_observation(first), allowed)

    def _keys(self) -> dict[str, str]:
        found = {}
        for name, view in self.views.items():
            key = None if view.grid is None else self.observed.key_of(view.grid, name)
            if key is not None:
                found[name] = key
        return found

    def _pictures(self, first: Any) -> dict[str, np.ndarray]:
        """:return: those that maps lie over; without any, the first image there is"""
        over = {key: (self.views[name].grid, name) for name, key in self.keys.items()}
        over = over or dict.fromkeys(list(self.observed.images)[:1], (None, ""))
        return {key: self.observed.picture(first, key, grid, name) for key, (grid, name) in over.items()}


def _check_finite(estimate: Estimate, weights: dict[str, np.ndarray]) -> None:
    """:raises ValueError: when the agent's own numbers are not finite: there is nothing to draw"""
    if not np.isfinite(estimate.bars).all() or (estimate.value is not None and not np.isfinite(estimate.value)):
        raise ValueError(
            f"What the agent expects is not finite ({estimate.unit} {estimate.bars.tolist()}, value {estimate.value}): "
            "its weights, or the observation, hold NaN or infinity."
        )
    for name, numbers in weights.items():
        if np.isinf(numbers).any() or np.isnan(numbers).all():
            raise ValueError(f"The attention weights of {name} are not finite.")


def _render(env: VecEnv) -> np.ndarray | None:
    """:return: (height, width, 3) uint8, the first environment's picture of itself; None where it makes none"""
    if env.render_mode != "rgb_array":
        return None
    picture = env.get_images()[0]
    if picture is None or np.ndim(picture) != 3:
        return None
    return shrunk(np.array(picture, np.uint8)[..., :3], LARGEST)


def action_names(env: VecEnv, n_actions: int) -> tuple[str, ...]:
    """
    Ask an environment for the names of its actions.

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
