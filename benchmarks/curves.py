"""Learning curves of runs, and what a run's line in a results file says beside them."""

import time

import torch as th
from resumable import Line
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

#: evaluations on the way, and episodes of each
N_POINTS, POINT_EPISODES = 20, 10
#: evaluations in a row that must reach what is enough
TWICE = 2


class Curve(BaseCallback):
    """
    Greedy returns on the way. They are not part of the agent's training: nothing of it is changed.

    :param env: another one than the training environment
    :param every: environment steps
    :param enough: training ends once ``TWICE`` evaluations in a row reach this; None: it never does
    """

    def __init__(self, env: VecEnv, every: int, enough: float | None = None) -> None:
        super().__init__()
        self.env, self.every, self.enough = env, every, enough
        self.points: list[tuple[int, float]] = []
        self.seconds = 0.0

    def _on_step(self) -> bool:
        if self.num_timesteps >= self.every * (len(self.points) + 1):
            begin = time.process_time()
            score, _ = evaluate_policy(self.model, self.env, n_eval_episodes=POINT_EPISODES)
            self.points.append((self.num_timesteps, round(float(score), 3)))  # type: ignore[arg-type]
            self.seconds += time.process_time() - begin
            if self.enough is not None and len(self.points) >= TWICE:
                return any(score < self.enough for _, score in self.points[-TWICE:])
        return True


def learn_with_curve(model: OffPolicyAlgorithm, evaluated: VecEnv, steps: int, n_points: int = N_POINTS) -> Line:
    """
    Train on one thread.

    :param model: that learns
    :param evaluated: another environment than the model's
    :param steps: environment steps to learn for
    :param n_points: evaluations on the way
    :return: ``score``, the greedy return of the final model over 100 episodes; ``curve``, (steps, greedy return) on the
        way; ``cpu_seconds`` of learning without them
    """
    th.set_num_threads(1)
    curve = Curve(evaluated, max(steps // n_points, 1))
    begin = time.process_time()
    model.learn(steps, callback=curve)
    seconds = time.process_time() - begin - curve.seconds
    score, _ = evaluate_policy(model, evaluated, n_eval_episodes=100)
    return dict(score=round(float(score), 3), cpu_seconds=round(seconds), curve=curve.points)  # type: ignore[arg-type]
