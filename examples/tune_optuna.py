"""
Tune RecurrentDQN with Optuna's own API and this package's search space.

    python examples/tune_optuna.py --trials 20 --steps 20000
    python examples/tune_optuna.py --storage sqlite:///tune.db    # can be stopped, gone on with, run many times at once
"""

import argparse

import optuna
import torch as th
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.env_util import make_vec_env

import sb3_attnmem.envs  # noqa: F401  registers the T-Mazes
from sb3_attnmem import RecurrentDQN
from sb3_attnmem.zoo.search_spaces import sample_rdqn_params

N_ENVS, N_EVALUATIONS = 8, 4


class TrialEvaluation(EvalCallback):
    """Tell the trial of each evaluation, and stop where its pruner says so."""

    def __init__(self, trial: optuna.Trial, env_id: str, every: int) -> None:
        super().__init__(make_vec_env(env_id, N_ENVS, seed=1), n_eval_episodes=50, eval_freq=every, verbose=0)
        self.trial, self.pruned = trial, False

    def _on_step(self) -> bool:
        goes_on = super()._on_step()
        if self.n_calls % self.eval_freq == 0:
            self.trial.report(self.last_mean_reward, self.num_timesteps)
            self.pruned = self.trial.should_prune()
        return goes_on and not self.pruned


def objective(trial: optuna.Trial, env_id: str, steps: int) -> float:
    """:return: the mean greedy return of the last evaluation"""
    hyperparams = sample_rdqn_params(trial, n_envs=N_ENVS)
    model = RecurrentDQN("MlpPolicy", make_vec_env(env_id, N_ENVS, seed=0), buffer_size=50_000, seed=0, **hyperparams)
    evaluation = TrialEvaluation(trial, env_id, every=steps // N_ENVS // N_EVALUATIONS)
    model.learn(steps, callback=evaluation)
    if evaluation.pruned:
        raise optuna.TrialPruned
    return evaluation.last_mean_reward


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="PassiveTMaze10-v0")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--steps", type=int, default=20_000, help="environment steps a trial")
    parser.add_argument("--storage", help="for example sqlite:///tune.db; in memory by default")
    args = parser.parse_args()
    th.set_num_threads(1)  # networks this small are fastest on one
    study = optuna.create_study(
        storage=args.storage,
        study_name=f"rdqn-{args.env}",
        load_if_exists=True,
        direction="maximize",
        sampler=optuna.samplers.TPESampler(multivariate=True, group=True),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=args.steps // 2),
    )
    study.optimize(
        lambda trial: objective(trial, args.env, args.steps),
        args.trials,
        catch=(ValueError,),  # a loss that is not finite fails its trial, not the study
        show_progress_bar=True,
    )
    print(f"best: {study.best_value:.2f} with {study.best_params}")


if __name__ == "__main__":
    main()
