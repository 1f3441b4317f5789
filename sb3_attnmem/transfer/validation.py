"""Stopping in time, by episodes that the agent is not trained on."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import gymnasium as gym
from stable_baselines3.common.callbacks import StopTrainingOnNoModelImprovement
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize

from sb3_attnmem.common.checks import check_flag, check_integer
from sb3_attnmem.dqn_recurrent import WholeFileEvalCallback, statistics_of


class ValidationCallback(WholeFileEvalCallback):
    """
    SB3's ``EvalCallback`` and ``StopTrainingOnNoModelImprovement`` on a validation environment that is seeded anew
    before every evaluation, so that all are over the same episodes; when training ends, for whichever reason, the model
    gets the best weights back, and its ``VecNormalize`` the statistics that go with them.

    :param eval_env: the validation environment, not the one that is trained in; an id (as in the Zoo's YAML) is made
        here, ``wrapper`` around it, and normalised like the training environment
    :param seed: of the validation episodes; not one that training uses
    :param patience: evaluations without a better mean that are endured; None: never stop early
    :param min_evals: evaluations before that counts
    :param wrapper: class around an environment given by its id, or its import path
    :param wrapper_kwargs: its options
    :param n_eval_episodes: episodes an evaluation
    :param eval_freq: calls of ``env.step``, or offline updates, from one evaluation to the next
    :param restore_best: give the best weights back at the end
    :param best_model_save_path: folder for ``best_model.zip`` as well; None: kept in memory alone
    :param log_path: folder for ``evaluations.npz``
    :param deterministic: greedy episodes
    :param verbose: 1 tells of new bests and of what was restored
    :raises ValueError: for numbers that make no sense; when training begins, for the environment that is trained in
    """

    #: kept with a checkpoint of ``ResumableCheckpoint``, beside what SB3's callbacks have
    checkpointed = ("best_at", "best_weights", "best_statistics")

    def __init__(
        self,
        eval_env: gym.Env | VecEnv | str,
        seed: int = 1_000_000,
        patience: int | None = 5,
        min_evals: int = 0,
        wrapper: Any = None,
        wrapper_kwargs: dict[str, Any] | None = None,
        n_eval_episodes: int = 20,
        eval_freq: int = 1_000,
        restore_best: bool = True,
        best_model_save_path: str | Path | None = None,
        log_path: str | Path | None = None,
        deterministic: bool = True,
        verbose: int = 1,
    ) -> None:
        check_integer("seed", seed, 0, 2**32 - 1)
        if patience is not None:
            check_integer("patience", patience)
        check_integer("min_evals", min_evals, 0)
        check_integer("n_eval_episodes", n_eval_episodes)
        check_integer("eval_freq", eval_freq)
        check_flag("restore_best", restore_best)
        check_flag("deterministic", deterministic)
        self._made_here = isinstance(eval_env, str)
        if isinstance(eval_env, str):
            eval_env = make_vec_env(eval_env, wrapper_class=_class_of(wrapper), wrapper_kwargs=wrapper_kwargs or {})
        elif wrapper is not None:
            raise ValueError(
                "wrapper goes around an environment given by its id; wrap the one that is passed yourself."
            )
        stop = None
        if patience is not None:
            # SB3 stops when there were more evaluations in vain than it is told
            stop = StopTrainingOnNoModelImprovement(patience - 1, min_evals, verbose=verbose)
        super().__init__(
            eval_env,
            callback_after_eval=stop,
            n_eval_episodes=n_eval_episodes,
            eval_freq=eval_freq,
            log_path=None if log_path is None else str(log_path),
            best_model_save_path=None if best_model_save_path is None else str(best_model_save_path),
            deterministic=deterministic,
            verbose=verbose,
        )
        self.seed = seed
        self.restore_best = restore_best
        #: calls of `on_step` when the best was found
        self.best_at: int | None = None
        #: those of the best evaluation
        self.best_weights: dict[str, Any] | None = None
        #: of ``VecNormalize``, that go with them
        self.best_statistics: dict[str, Any] = {}

    def _init_callback(self) -> None:
        if _share_environments(self.training_env, self.eval_env):
            raise ValueError(
                "eval_env is the environment that is trained in: its episodes would be broken off and seeded at every "
                "evaluation. Make another one, or pass its id."
            )
        normalizer = self.model.get_vec_normalize_env()
        if self._made_here and normalizer is not None and not isinstance(self.eval_env, VecNormalize):
            self.eval_env = VecNormalize(
                self.eval_env,
                training=False,
                norm_obs=normalizer.norm_obs,
                norm_reward=False,
                clip_obs=normalizer.clip_obs,
                epsilon=normalizer.epsilon,
                norm_obs_keys=normalizer.norm_obs_keys,
            )
        super()._init_callback()

    def _on_step(self) -> bool:
        due = self.n_calls % self.eval_freq == 0
        best = self.best_mean_reward
        if due:
            self.eval_env.seed(self.seed)
        goes_on = super()._on_step()
        if due and self.best_mean_reward > best:
            self.best_at = self.n_calls
            self.best_weights = deepcopy(self.model.get_parameters())
            normalizer = self.model.get_vec_normalize_env()
            self.best_statistics = {} if normalizer is None else deepcopy(statistics_of(normalizer))
        return goes_on

    def _on_training_end(self) -> None:
        if not self.restore_best or self.best_weights is None:
            return
        self.model.set_parameters(self.best_weights, exact_match=True, device=self.model.device)
        normalizer = self.model.get_vec_normalize_env()
        if normalizer is not None:
            vars(normalizer).update(deepcopy(self.best_statistics))
        if self.verbose >= 1:
            print(f"The model has the weights back of step {self.best_at}, the best mean {self.best_mean_reward:.2f}")


def _share_environments(training: VecEnv | None, evaluation: VecEnv) -> bool:
    """:return: whether two vectorised environments step the same one, under whatever wrappers"""
    if training is None:
        return False
    inside = [env.unwrapped for env in (training, evaluation)]
    if inside[0] is inside[1]:
        return True
    games = [{id(env.unwrapped) for env in envs.envs} if isinstance(envs, DummyVecEnv) else set() for envs in inside]
    return bool(games[0] & games[1])


def _class_of(wrapper: Any) -> Any:
    """:return: the class that an import path names"""
    if not isinstance(wrapper, str):
        return wrapper
    import importlib

    module, _, name = wrapper.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (AttributeError, ImportError, ValueError) as error:
        raise ValueError(f"wrapper={wrapper!r} is no class: {error}") from error
