"""The RL Zoo's manager of runs, with what it lacks: going on after a kill."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from rl_zoo3.utils import ALGOS
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv, VecNormalize

from sb3_attnmem.common.files import write_text
from sb3_attnmem.dqn_recurrent import RecurrentDQN, ResumableCheckpoint, load_checkpoint
from sb3_attnmem.envs import EndingSubprocVecEnv
from sb3_attnmem.zoo.patches import learning_goes_on, learning_with_actors, masked_command_line, whole_evaluations
from sb3_attnmem.zoo.refusals import Refusal
from sb3_attnmem.zoo.settings import as_settings, to_yaml
from sb3_attnmem.zoo.train.actors import ActorEnvs, ActorEpisodes, ActorOptions
from sb3_attnmem.zoo.train.figures_file import FiguresFile
from sb3_attnmem.zoo.train.pretraining import Pretraining
from sb3_attnmem.zoo.train.run_folder import Resumed, RunFolder
from sb3_attnmem.zoo.tune.storages import masked
from sb3_attnmem.zoo.tune.trials import TrialManager


class ZooManager(TrialManager):
    """
    rl_zoo3's manager of a run, with checkpoints that the run goes on from, in the same folder.

    :param checkpoint_freq: environment steps from one checkpoint to the next; 0 takes none
    :param resume: the run to go on with, and where; None begins one
    :param options: the command line, to be found again when the run is resumed
    :param pretraining: what the run begins from, and what learns
    :param actors: who steps the environments; None: the run itself
    """

    def __init__(
        self,
        *args: Any,
        checkpoint_freq: int = 0,
        resume: Resumed | None = None,
        options: Sequence[str] = (),
        pretraining: Pretraining | None = None,
        actors: ActorOptions | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.actors = actors
        self.checkpoint_freq = checkpoint_freq
        self.resume = resume
        self.pretraining = pretraining
        self.end = _End()
        if self.vec_env_class is SubprocVecEnv:
            self.vec_env_class = EndingSubprocVecEnv
        if resume is None:
            self.folder = RunFolder(Path(self.save_path), [masked(word) for word in options])
        else:
            self.folder = resume.folder
            self.save_path = str(resume.folder.path)
            self.params_path = f"{self.save_path}/{self.env_name}"
            self.continue_training = True  # so that rl_zoo3 asks for the agent to go on with

    def create_callbacks(self) -> None:
        with whole_evaluations():
            super().create_callbacks()
        self.callbacks.append(FiguresFile(self.save_path))
        if self.actors is not None:
            self.callbacks.append(ActorEpisodes(self.save_path, self.env_name.gym_id))
        if self.checkpoint_freq > 0:
            self.callbacks += [self._checkpoints(), self.end]

    def _checkpoints(self) -> ResumableCheckpoint:
        return ResumableCheckpoint(self.folder.checkpoints, self.checkpoint_freq, self.verbose, self.save_path)

    @property
    def monitor_kwargs(self) -> Any:
        """:return: of SB3's ``Monitor``; a run that goes on adds to its files, whatever rl_zoo3 and the settings say"""
        kwargs = self._monitor_kwargs
        if self.resume is None or isinstance(kwargs, str) or not any(Path(self.save_path).glob("*monitor.csv")):
            return kwargs  # a string is evaluated next
        return {**kwargs, "override_existing": False}

    @monitor_kwargs.setter
    def monitor_kwargs(self, kwargs: Any) -> None:
        self._monitor_kwargs = kwargs

    def _maybe_normalize(self, env: VecEnv, eval_env: bool) -> VecEnv:
        if self.resume is None:
            # Without an agent to go on with, rl_zoo3 looks for its statistics in the present folder
            agent = self.trained_agent or os.path.join(self.save_path, "none.zip")
            with mock.patch.object(self, "trained_agent", agent):
                return super()._maybe_normalize(env, eval_env)
        statistics = self.resume.checkpoint.path / "vecnormalize.pkl"
        if not statistics.exists():
            if self.normalize:
                raise Refusal(f"{statistics} is missing: the run would go on with fresh statistics")
            return env
        env = VecNormalize.load(str(statistics), env)
        if eval_env:
            env.training = env.norm_reward = False
        return env

    def _load_pretrained_agent(self, hyperparams: dict[str, Any], env: VecEnv) -> BaseAlgorithm:
        if self.resume is None:
            return super()._load_pretrained_agent(hyperparams, env)
        return load_checkpoint(
            ALGOS[self.algo],  # type: ignore[type-var]
            self.resume.checkpoint.path,
            env,
            tensorboard_log=self.tensorboard_log,
            verbose=self.verbose,
            device=self.device,
        )

    def setup_experiment(self) -> tuple[BaseAlgorithm, dict[str, Any]] | None:
        experiment = super().setup_experiment()
        if experiment is None:
            return None
        model, hyperparams = experiment
        checkpoints = self._checkpoints() if self.checkpoint_freq > 0 else None
        if self.resume is None:
            write_text(self.folder.settings, to_yaml(self.env_name.gym_id, as_settings(hyperparams), []))
            self.folder.write()
            if self.pretraining is not None:
                self.pretraining.begin(model, checkpoints)
            return model, hyperparams
        self.folder.write()
        if self.resume.offline is None:
            print(f"Going on at {model.num_timesteps:,} steps, {self.n_timesteps - model.num_timesteps:,} are left")
            self.n_timesteps -= model.num_timesteps
        else:
            assert isinstance(model, RecurrentDQN)
            print("Going on with learning from data")
            self.resume.offline.go_on(model, checkpoints)
        return model, hyperparams

    def _save_config(self, saved_hyperparams: dict[str, Any]) -> None:
        if self.resume is not None:  # what the run began with stays
            print(f"Log path: {self.save_path}")
            return
        with masked_command_line():
            super()._save_config(saved_hyperparams)

    def learn(self, model: BaseAlgorithm) -> None:
        goes_on = self.resume is not None and self.resume.offline is None
        if self.actors is not None:
            assert isinstance(model, RecurrentDQN)
            with learning_with_actors(
                type(model),
                make_env=ActorEnvs(self, model.n_envs, getattr(self.args, "gym_packages", ())),
                n_actors=self.actors.n_actors,
                ray_address=self.actors.ray_address,
                reset_num_timesteps=not goes_on,
            ):
                super().learn(model)
            return
        if not goes_on:
            super().learn(model)
            return
        with learning_goes_on(type(model)):
            super().learn(model)

    def save_trained_model(self, model: BaseAlgorithm) -> None:
        super().save_trained_model(model)
        if self.end.reached and isinstance(model, OffPolicyAlgorithm):
            self.folder.finished = model.num_timesteps
            self.folder.write()


class _End(BaseCallback):
    """
    Notice that training ended by itself, not by Ctrl-C, which rl_zoo3 hides: it calls ``on_training_end`` then as well,
    but of its first callback only.
    """

    reached = False

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        self.reached = True
