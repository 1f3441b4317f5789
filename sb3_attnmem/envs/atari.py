"""ALE's own vectorised Atari behind Stable-Baselines3's ``VecEnv``."""

from collections.abc import Iterable, Sequence
from typing import Any

import ale_py
import gymnasium as gym
import numpy as np
from ale_py import roms
from ale_py.vector_env import AtariVectorEnv
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecFrameStack, VecMonitor
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn

from sb3_attnmem.common.checks import check_flag, check_integer, check_integers, check_number
from sb3_attnmem.common.names import did_you_mean

#: seeds that ALE tells apart
N_SEEDS = 2**31

gym.register_envs(ale_py)


class AtariVecEnv(VecEnv):
    """
    N games that ALE steps in threads of its own, with its preprocessing: frame skip, maximum of the last two frames,
    84×84 pixels in grey, no-ops at the start (Mnih et al., 2015, https://doi.org/10.1038/nature14236).

    Observations are (N, 1, 84, 84) uint8, rewards are the game's, an episode is a game. As everywhere in
    Stable-Baselines3, a game that is over begins anew in the same step: ``terminal_observation`` is its last frame,
    ``TimeLimit.truncated`` tells a time limit from an end. ``lives`` is in the infos.

    :param game: its ROM, as ALE spells it: "pong", "ms_pacman"
    :param n_envs: N
    :param screen_size: pixels on a side
    :param frame_skip: frames an action
    :param noop_max: no-ops at the start of a game, at most
    :param action_repeat_probability: of sticky actions, tossed for each frame
    :param max_frames: of a game
    :param full_action_space: all 18 actions instead of the game's own
    :param n_threads: ALE's; 0 takes as many as there are cores
    :raises ValueError: when ALE has no such game, or a number or flag is none or out of range
    """

    def __init__(
        self,
        game: str,
        n_envs: int,
        screen_size: int = 84,
        frame_skip: int = 4,
        noop_max: int = 30,
        action_repeat_probability: float = 0.0,
        max_frames: int = 108_000,
        full_action_space: bool = False,
        n_threads: int = 0,
    ) -> None:
        games = list(roms.get_all_rom_ids())
        if game not in games:
            near = did_you_mean(game, games) if isinstance(game, str) else ""
            raise ValueError(f"game={game!r} is none that ALE has, by the name of its ROM.{near}")
        n_envs, screen_size, frame_skip, max_frames = check_integers(
            n_envs=n_envs, screen_size=screen_size, frame_skip=frame_skip, max_frames=max_frames
        )
        self.games = AtariVectorEnv(
            game,
            n_envs,
            num_threads=check_integer("n_threads", n_threads, least=0),
            max_num_frames_per_episode=max_frames,
            repeat_action_probability=_check_repeats(action_repeat_probability),
            full_action_space=check_flag("full_action_space", full_action_space),
            autoreset_mode=AutoresetMode.SAME_STEP,
            img_height=screen_size,
            img_width=screen_size,
            stack_num=1,
            frameskip=frame_skip,
            noop_max=check_integer("noop_max", noop_max, least=0),
            reward_clipping=False,
        )
        #: the number of the action "fire", which serves the ball in some games; None where the game has none
        self.fire = _number_of_fire(game, full_action_space)
        self.render_mode = None
        super().__init__(n_envs, self.games.single_observation_space, self.games.single_action_space)

    def reset(self) -> np.ndarray:
        # ALE takes a C int; Stable-Baselines3 draws seeds of 32 bits where none is given
        seeds = [-1 if seed is None else seed % N_SEEDS for seed in self._seeds]
        observations, infos = self.games.reset(seed=np.array(seeds))
        self.reset_infos = self._split(infos)
        self._reset_seeds()
        self._reset_options()
        return observations

    def step_async(self, actions: np.ndarray) -> None:
        self.games.send(np.asarray(actions, dtype=np.int64))

    def step_wait(self) -> VecEnvStepReturn:
        observations, rewards, terminated, truncated, told = self.games.recv()
        infos = self._split(told)
        done = terminated | truncated
        for i in np.flatnonzero(done).tolist():
            infos[i]["terminal_observation"] = told["final_obs"][i]
            self.reset_infos[i] = {name: infos[i][name] for name in ("lives", "episode_frame_number")}
        for i, info in enumerate(infos):
            info["TimeLimit.truncated"] = bool(truncated[i] and not terminated[i])
        return observations, rewards.astype(np.float32), done, infos

    def _split(self, infos: dict[str, np.ndarray]) -> list[dict[str, Any]]:
        names = ("lives", "episode_frame_number")
        return [{name: int(infos[name][i]) for name in names} for i in range(self.num_envs)]

    def close(self) -> None:
        self.games.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        raise NotImplementedError(
            "ALE's vectorised Atari does not render. Make pictures with "
            "stable_baselines3.common.env_util.make_atari_env(..., env_kwargs=dict(render_mode='rgb_array'))."
        )

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        return [getattr(self.games, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        raise AttributeError(f"The games live in ALE; '{attr_name}' cannot be set on them.")

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        raise AttributeError(f"The games live in ALE; they have no method '{method_name}' to call.")

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        return [False for _ in self._get_indices(indices)]


class AtariTrainingView(VecEnvWrapper):
    """
    What DQN learns from, above ``VecMonitor``, so that logged scores stay those of the games: rewards clipped to their
    sign, and an episode that ends when a life is lost, while the game goes on. The first action after a lost life is
    "fire", whichever is passed, where the game has it: Breakout stands still until then, and an agent whose episodes
    are lives need not learn to serve, since games begin served.

    :param venv: Atari games that tell their ``lives``
    :param terminal_on_life_loss: whether a lost life ends the episode
    :param clip_reward: whether rewards become -1, 0 or 1
    :raises ValueError: when a flag is none
    """

    def __init__(self, venv: VecEnv, terminal_on_life_loss: bool = True, clip_reward: bool = True) -> None:
        self.terminal_on_life_loss = check_flag("terminal_on_life_loss", terminal_on_life_loss)
        self.clip_reward = check_flag("clip_reward", clip_reward)
        super().__init__(venv)
        self.lives = np.zeros(self.num_envs, dtype=np.int64)
        self._to_fire = np.zeros(self.num_envs, dtype=bool)
        self._fire: int | None = getattr(self.unwrapped, "fire", None)

    def reset(self) -> Any:
        observations = self.venv.reset()
        self.lives = self._lives(self.unwrapped.reset_infos)
        self._to_fire[:] = False
        return observations

    def step_async(self, actions: np.ndarray) -> None:
        self.venv.step_async(actions if self._fire is None else np.where(self._to_fire, self._fire, actions))

    def step_wait(self) -> VecEnvStepReturn:
        observations, rewards, dones, infos = self.venv.step_wait()
        assert isinstance(observations, np.ndarray)
        if self.terminal_on_life_loss:
            lives = self._lives(infos)
            lost = (lives < self.lives) & ~dones
            for i in np.flatnonzero(lost):
                infos[i]["terminal_observation"] = observations[i]
            self.lives, self._to_fire, dones = lives, lost, dones | lost
        return observations, np.sign(rewards) if self.clip_reward else rewards, dones, infos

    @staticmethod
    def _lives(infos: Iterable[dict[str, Any]]) -> np.ndarray:
        return np.array([info["lives"] for info in infos])


def _number_of_fire(game: str, full_action_space: bool) -> int | None:
    ale = ale_py.ALEInterface()
    path = roms.get_rom_path(game)
    assert path is not None
    ale.loadROM(path)
    actions = ale.getLegalActionSet() if full_action_space else ale.getMinimalActionSet()
    return actions.index(ale_py.Action.FIRE) if ale_py.Action.FIRE in actions else None


def _check_repeats(probability: Any) -> float:
    return check_number("action_repeat_probability", probability, least=0, most=1, hint="Atari's own is 0.25.")


def make_atari_vec_env(
    env_id: str,
    n_envs: int = 1,
    seed: int | None = None,
    monitor_dir: str | None = None,
    n_stack: int = 1,
    screen_size: int = 84,
    frame_skip: int = 4,
    noop_max: int = 30,
    terminal_on_life_loss: bool = True,
    clip_reward: bool = True,
    action_repeat_probability: float | None = None,
    n_threads: int = 0,
) -> VecEnv:
    """
    Atari for DQN as ``stable_baselines3.common.env_util.make_atari_env`` makes it, stepped by ALE in C++. The arguments
    are those of ``AtariWrapper``. Episode statistics are of whole games with their true scores.

    Where it differs from ``make_atari_env``: frames are turned grey and scaled by ALE rather than by OpenCV (a pixel
    differs by 0.05 of 255 in the mean, over a game of Freeway); the action "fire" that starts some games is taken by
    ALE, and after a lost life in the place of the agent's first action, where SB3 takes steps of its own; the length of
    an episode in ``info["episode"]`` is in actions, not in frames; it does not render.

    :param env_id: "ALE/Pong-v5", "PongNoFrameskip-v4", …; it names the game, and whether actions are sticky
    :param n_envs: number of games
    :param seed: of the games, from 0 to 2³² − 1 (ALE tells 2³¹ apart); None draws one
    :param monitor_dir: where ``VecMonitor`` writes, if given
    :param n_stack: frames that an observation stacks (``VecFrameStack``); 1 is right for an agent with a memory
    :param screen_size: pixels on a side
    :param frame_skip: frames an action, in all
    :param noop_max: no-ops at the start of a game, at most
    :param terminal_on_life_loss: whether a lost life ends an episode
    :param clip_reward: whether rewards become -1, 0 or 1 (never in the logged scores)
    :param action_repeat_probability: of sticky actions; None takes that of ``env_id`` (0.25 for v5, 0 for v4)
    :param n_threads: ALE's; 0 takes as many as there are cores
    :return: observations (n_envs, n_stack, 84, 84) uint8
    :raises ValueError: when ``env_id`` is no Atari game, or a number or flag is none or out of range
    """
    n_stack = check_integer("n_stack", n_stack)
    check_flag("terminal_on_life_loss", terminal_on_life_loss)
    check_flag("clip_reward", clip_reward)
    seed = None if seed is None else check_integer("seed", seed, least=0, most=2**32 - 1)
    spec = gym.envs.registration.registry.get(env_id) if isinstance(env_id, str) else None
    if spec is None or "game" not in spec.kwargs:
        known = [name for name, known in gym.envs.registration.registry.items() if "game" in known.kwargs]
        raise ValueError(
            f"{env_id!r} is no Atari game;{did_you_mean(env_id, known)} pass an id such as 'ALE/Pong-v5' or "
            "'PongNoFrameskip-v4' (all: `[id for id in gymnasium.registry if id.startswith('ALE/')]`)."
        )
    if action_repeat_probability is None:
        action_repeat_probability = spec.kwargs.get("repeat_action_probability", 0.0)
    games = AtariVecEnv(
        spec.kwargs["game"],
        n_envs,
        screen_size,
        frame_skip,
        noop_max,
        action_repeat_probability,
        spec.kwargs.get("max_num_frames_per_episode", 108_000),
        spec.kwargs.get("full_action_space", False),
        n_threads,
    )
    games.seed(seed)
    env: VecEnv = AtariTrainingView(VecMonitor(games, monitor_dir), terminal_on_life_loss, clip_reward)
    return VecFrameStack(env, n_stack) if n_stack > 1 else env
