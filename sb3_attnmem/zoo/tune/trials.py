"""The RL Zoo's manager of runs, with searches that keep the policy, survive failures and compare several seeds."""

import argparse
import contextlib
import io
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial
from rl_zoo3.exp_manager import ExperimentManager
from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER
from rl_zoo3.utils import ALGOS
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecEnv, VecTransposeImage

from sb3_attnmem.zoo.normalization import add_wrapper, has_images_to_transpose, normalizable, stack_before_normalizing
from sb3_attnmem.zoo.patches import (
    failures_fail_their_trial,
    masked_command_line,
    masked_trials,
    sampler_of,
    studies_without_storage,
)
from sb3_attnmem.zoo.refusals import Refusal
from sb3_attnmem.zoo.search_spaces import sample_extractor_kwargs
from sb3_attnmem.zoo.settings import as_settings, classes_named
from sb3_attnmem.zoo.tune.storages import masked, open_storage
from sb3_attnmem.zoo.tune.studies import ERROR_ATTR, SETTINGS_ATTR, TASK_ATTR, claim_study, settings_of, task_of

#: of a trial, at least
N_EVALUATIONS = 8
#: four seeds that all lose are enough for it: 1/16 < 0.1
WILCOXON_P = 0.1


@contextlib.contextmanager
def _experiments() -> Iterator[None]:
    """What Optuna calls experimental is so on purpose."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


class TrialManager(ExperimentManager):
    """
    rl_zoo3's manager of a run, whose trials draw what the settings leave open and tell what they drew.

    :param args: options of the program, saved with the run (a storage without its password)
    :param positional: as in rl_zoo3
    :param n_seeds: agents that a trial trains; its value is their mean
    :param kwargs: as in rl_zoo3; ``n_evaluations`` of a trial, for its pruner, is by default at least 8
    """

    def __init__(self, args: argparse.Namespace, *positional: Any, n_seeds: int = 1, **kwargs: Any) -> None:
        super().__init__(args, *positional, **kwargs)
        self.n_seeds = n_seeds
        #: settings that are saved with the run
        self.saved: dict[str, Any] = {}
        self.evaluations_by_default = kwargs.get("n_evaluations") is None
        if self.storage is not None:
            args.storage = masked(self.storage)
            if self.study_name is None:  # rl_zoo3 would print the storage, and Optuna invent a name
                self.study_name = f"{self.algo}-{self.env_name}"

    def read_hyperparameters(self) -> tuple[dict[str, Any], dict[str, Any]]:
        # rl_zoo3 takes trial 0 for none, and evaluates what it reads in a study
        trial_id, self.trial_id = self.trial_id, None
        if self.storage and self.study_name and trial_id is not None:
            with contextlib.redirect_stdout(io.StringIO()):
                own, _ = super().read_hyperparameters()
            try:
                drawn = self._load_settings(self.storage, self.study_name, trial_id, classes_named(own))
            except (ImportError, ValueError) as error:
                raise Refusal(f"--trial-id {trial_id}: {error}") from error
            self.custom_hyperparams = {**drawn, **(self.custom_hyperparams or {})}
        hyperparams, saved = super().read_hyperparameters()
        for settings in (hyperparams, saved):
            if issubclass(ALGOS[self.algo], OffPolicyAlgorithm):
                stack_before_normalizing(settings)
        self.saved = saved
        return hyperparams, saved

    def load_trial(
        self, storage: str, study_name: str, trial_id: int | None = None, convert: bool = True
    ) -> dict[str, Any]:
        if convert:
            return self._load_settings(storage, study_name, trial_id, ())
        return self._load(storage, study_name, trial_id).params

    def _load(self, storage: str, study_name: str, trial_id: int | None) -> FrozenTrial:
        try:
            study = optuna.load_study(study_name=study_name, storage=open_storage(storage))
        except KeyError:
            raise ValueError(f"there is no study '{study_name}' in {masked(storage)}") from None
        theirs = study.user_attrs.get(TASK_ATTR, {}).get("algorithm", self.algo)
        if theirs != self.algo:
            raise ValueError(
                f"study '{study_name}' is for {theirs}, not for {self.algo}: its trials have other settings."
            )
        if trial_id is None:
            return study.best_trial
        if not 0 <= trial_id < len(study.trials):
            raise ValueError(f"study '{study_name}' has no trial {trial_id}, but {len(study.trials)} trials from 0 on")
        return study.trials[trial_id]

    def _load_settings(
        self, storage: str, study_name: str, trial_id: int | None, classes: Iterable[type]
    ) -> dict[str, Any]:
        trial = self._load(storage, study_name, trial_id)
        if SETTINGS_ATTR in trial.user_attrs:  # with what the search left alone
            return settings_of(trial, self.algo, classes)
        return as_settings(HYPERPARAMS_CONVERTER[self.algo](trial.params))

    def _preprocess_hyperparams(self, hyperparams: dict[str, Any]) -> tuple[Any, ...]:
        processed = super()._preprocess_hyperparams(hyperparams)
        if self._eval_env_kwargs_args is None:  # rl_zoo3 leaves out those of the settings file
            self.eval_env_kwargs = self.env_kwargs
        if self.optimize_hyperparameters and self.evaluations_by_default:
            # One each 100k steps, as in rl_zoo3, would leave a pruner nothing to act on in shorter trials
            self.n_evaluations = max(N_EVALUATIONS, self.n_timesteps // 100_000)
        return processed

    def _maybe_normalize(self, env: VecEnv, eval_env: bool) -> VecEnv:
        """Normalise what can be: rl_zoo3 would end in ``VecNormalize``'s error, or in that of a CNN after it."""
        if (
            self.normalize
            and issubclass(ALGOS[self.algo], OffPolicyAlgorithm)
            and has_images_to_transpose(env.observation_space)
        ):
            # rl_zoo3 transposes what VecNormalize gives, but off-policy algorithms store what it got
            env = VecTransposeImage(env)
            add_wrapper(self.saved, "stable_baselines3.common.vec_env.VecTransposeImage")
        given, self.normalize_kwargs = self.normalize_kwargs, normalizable(env.observation_space, self.normalize_kwargs)
        if self.normalize and self.verbose > 0 and self.normalize_kwargs != given and not eval_env:
            print(f"Of the observations {env.observation_space}, those that are no vectors of numbers stay as they are")
        try:
            return super()._maybe_normalize(env, eval_env)
        finally:
            self.normalize_kwargs = given

    def create_log_folder(self) -> None:
        if not self.optimize_hyperparameters:  # a search saves no model
            super().create_log_folder()

    def make_sampler(self) -> optuna.samplers.BaseSampler:
        """:return: what draws the trials of a study"""
        return self._create_sampler(self.sampler)

    def make_pruner(self) -> optuna.pruners.BasePruner:
        """:return: what ends trials early"""
        return self._create_pruner(self.pruner)

    @_experiments()
    def _create_sampler(self, sampler_method: str) -> optuna.samplers.BaseSampler:
        if sampler_method == "tpe":
            return optuna.samplers.TPESampler(
                n_startup_trials=self.n_startup_trials,
                seed=self.seed,
                multivariate=True,
                group=True,  # the space is conditional
                constant_liar=True,  # workers should not all try the same
            )
        try:
            return super()._create_sampler(sampler_method)
        except ModuleNotFoundError as error:
            raise ImportError(
                f"--sampler {sampler_method} needs the package {error.name}: pip install optunahub cmaes"
            ) from error

    @_experiments()
    def _create_pruner(self, pruner_method: str) -> optuna.pruners.BasePruner:
        if pruner_method == "wilcoxon":
            return optuna.pruners.WilcoxonPruner(p_threshold=WILCOXON_P)
        if pruner_method == "median" and self.n_seeds > 1:
            return optuna.pruners.MedianPruner(n_startup_trials=self.n_startup_trials)
        return super()._create_pruner(pruner_method)

    def objective(self, trial: optuna.Trial) -> float:
        """
        :param trial: to train and score
        :return: the mean greedy return, over ``n_seeds`` agents
        :raises optuna.TrialPruned: when its pruner says so
        :raises Exception: what training raised; also told to the trial, as ``error``
        """
        try:
            with sampler_of(self.algo, self._sample(HYPERPARAMS_SAMPLER[self.algo])), masked_trials():
                if self.n_seeds == 1:
                    set_random_seed(self.seed)
                    value = super().objective(trial)
                else:
                    value = self._over_seeds(trial, super().objective)
                if not np.isfinite(value):  # which Optuna fails without a word
                    raise ValueError(f"the mean return is {value}")
                return value
        except optuna.TrialPruned as pruned:
            if pruned.__cause__ is None:
                raise
            trial.set_user_attr(ERROR_ATTR, str(pruned.__cause__))  # rl_zoo3 prunes what fails with some errors
            raise RuntimeError("the trial failed") from pruned.__cause__
        except Exception as error:
            trial.set_user_attr(ERROR_ATTR, f"{type(error).__name__}: {error}")
            raise

    def _sample(self, draw: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
        """:return: ``draw``, but the settings' policy_kwargs stay where nothing is drawn (rl_zoo3 drops them all)"""
        given = self._hyperparams.get("policy_kwargs", {})

        def drawn_and_given(trial: optuna.Trial, *args: Any) -> dict[str, Any]:
            drawn = draw(trial, *args)
            policy_kwargs = {**given, **drawn.get("policy_kwargs", {})}
            extractor_kwargs = sample_extractor_kwargs(trial, given.get("features_extractor_class"))
            if extractor_kwargs:
                policy_kwargs["features_extractor_kwargs"] = {
                    **given.get("features_extractor_kwargs", {}),
                    **extractor_kwargs,
                }
            if policy_kwargs:
                drawn["policy_kwargs"] = policy_kwargs
            if self.normalize and "gamma" in drawn:
                self.normalize_kwargs["gamma"] = drawn["gamma"]
            trial.set_user_attr(SETTINGS_ATTR, as_settings(drawn))
            return drawn

        return drawn_and_given

    def _over_seeds(self, trial: optuna.Trial, score: Callable[[Any], float]) -> float:
        first, scores = self.seed, []
        try:
            for seed in range(self.n_seeds):
                self.seed = first + seed
                set_random_seed(self.seed)
                scores.append(score(_Unpruned(trial)))
                trial.report(scores[-1], seed)
                if seed + 1 < self.n_seeds and trial.should_prune():
                    raise optuna.TrialPruned
        finally:
            self.seed = first
        trial.set_user_attr("scores", scores)
        return float(np.mean(scores))

    def hyperparameters_optimization(self) -> None:
        if self.storage is not None:
            try:
                study = optuna.create_study(
                    storage=open_storage(self.storage),
                    study_name=self.study_name,
                    load_if_exists=True,
                    direction="maximize",
                )
                claim_study(study, task_of(self.algo, self.env_name.gym_id, self.env_kwargs))
            except (ImportError, ValueError) as error:
                raise Refusal(str(error)) from error
        with failures_fail_their_trial(), masked_command_line(), studies_without_storage():
            super().hyperparameters_optimization()


class _Unpruned:
    """
    A trial for one agent of several: what it scores on its way is not compared with trials of other seeds.

    :param trial: the true one
    """

    def __init__(self, trial: optuna.Trial) -> None:
        self._trial = trial

    def __getattr__(self, name: str) -> Any:
        return getattr(self._trial, name)

    def report(self, value: float, step: int) -> None:
        pass

    def should_prune(self) -> bool:
        return False
