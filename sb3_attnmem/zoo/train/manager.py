"""The RL Zoo's manager of runs, with what it lacks: going on after a kill."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rl_zoo3.utils import ALGOS
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from sb3_attnmem.common.files import write_text
from sb3_attnmem.dqn_recurrent import ResumableCheckpoint, load_checkpoint, steps_left
from sb3_attnmem.zoo.patches import learning_goes_on, masked_command_line
from sb3_attnmem.zoo.settings import as_settings, to_yaml
from sb3_attnmem.zoo.train.pretraining import Pretraining
from sb3_attnmem.zoo.train.run_folder import RunFolder
from sb3_attnmem.zoo.tune.storages import masked
from sb3_attnmem.zoo.tune.trials import TrialManager


class ZooManager(TrialManager):
    """
    rl_zoo3's manager of a run, with checkpoints that the run goes on from, in the same folder.

    :param checkpoint_freq: environment steps from one checkpoint to the next; 0 takes none
    :param resume: the folder of a run to go on with
    :param options: the command line, to be found again when the run is resumed
    :param pretraining: what the run begins from, and what learns
    """

    def __init__(
        self,
        *args: Any,
        checkpoint_freq: int = 0,
        resume: RunFolder | None = None,
        options: Sequence[str] = (),
        pretraining: Pretraining | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.checkpoint_freq = checkpoint_freq
        self.resume = resume
        self.pretraining = pretraining
        self.folder = resume or RunFolder(Path(self.save_path), [masked(word) for word in options])
        if resume is not None:
            self.save_path = str(resume.path)
            self.params_path = f"{self.save_path}/{self.env_name}"
            self.monitor_kwargs["override_existing"] = False

    def create_callbacks(self) -> None:
        super().create_callbacks()
        if self.checkpoint_freq > 0:
            self.callbacks.append(ResumableCheckpoint(self.folder.checkpoints, self.checkpoint_freq, self.verbose))
        if self.resume is not None:
            for callback in self.callbacks:
                if isinstance(callback, EvalCallback):
                    _remember_evaluations(callback, Path(self.save_path) / "evaluations.npz")

    def setup_experiment(self) -> tuple[BaseAlgorithm, dict[str, Any]] | None:
        experiment = super().setup_experiment()
        if experiment is None:
            return None
        model, hyperparams = experiment
        if self.resume is None:
            if self.pretraining is not None:
                self.pretraining.begin(model)
            self._write_options(hyperparams)
        else:
            assert model.env is not None
            model = load_checkpoint(
                ALGOS[self.algo],  # type: ignore[type-var]
                self.folder.checkpoints,
                model.env,
                tensorboard_log=self.tensorboard_log,
                verbose=self.verbose,
                device=self.device,
            )
            assert isinstance(model, OffPolicyAlgorithm)
            self.n_timesteps = steps_left(model)
            for callback in self.callbacks:
                callback.n_calls = model.num_timesteps // model.n_envs  # their frequencies go on counting
            print(f"Going on at {model.num_timesteps:,} steps, {self.n_timesteps:,} are left")
        return model, hyperparams

    def _write_options(self, settings: dict[str, Any]) -> None:
        """Write what a later process needs to set up the same run, whatever happens to its settings file or study."""
        write_text(self.folder.settings, to_yaml(self.env_name.gym_id, as_settings(settings), []))
        self.folder.write()

    def _save_config(self, saved_hyperparams: dict[str, Any]) -> None:
        with masked_command_line():
            super()._save_config(saved_hyperparams)

    def learn(self, model: BaseAlgorithm) -> None:
        if self.resume is None:
            super().learn(model)
            return
        with learning_goes_on(type(model)):
            super().learn(model)


def _remember_evaluations(callback: EvalCallback, path: Path) -> None:
    """Let evaluations go on in the file that the run before wrote."""
    if not path.exists():
        return
    with np.load(path) as told:
        callback.evaluations_timesteps = told["timesteps"].tolist()
        callback.evaluations_results = told["results"].tolist()
        callback.evaluations_length = told["ep_lengths"].tolist()
    callback.best_mean_reward = max(float(np.mean(results)) for results in callback.evaluations_results)
