"""What the doctor is tried on: tasks whose need of memory is known, runs made ill on purpose, healthy ones."""

from typing import Any, NamedTuple

import gymnasium as gym
from stable_baselines3 import DQN, PPO
from tasks.doctors_worlds import (
    Bandit,
    Cents,
    Codes,
    CueEaten,
    Endless,
    Large,
    LimitAsEnd,
    Lock,
    Longer,
    Scaled,
    Shuffled,
    previous_action,
)
from tasks.memory_tasks import TASKS

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.envs import FlickerWrapper, PopgymWrapper


class Need(NamedTuple):
    """
    :param env: id, or a class
    :param least: observations that must be remembered, at least and at most
    """

    make: Any
    least: int
    most: int


#: what k is right: flickering CartPole has no one number, each observation being there with a chance of a half
NEEDS = {
    "CartPole-v1": Need(lambda: gym.make("CartPole-v1"), 1, 1),
    "CartPoleNoVel-v1": Need(lambda: gym.make("CartPoleNoVel-v1"), 2, 2),
    "RepeatPreviousEasy": Need(lambda: PopgymWrapper(gym.make("popgym-RepeatPreviousEasy-v0")), 4, 4),
    "RepeatPreviousMedium": Need(lambda: PopgymWrapper(gym.make("popgym-RepeatPreviousMedium-v0")), 32, 32),
    "T-Maze 10": Need(lambda: gym.make("PassiveTMaze10-v0"), 11, 16),
    "T-Maze 30": Need(lambda: gym.make("PassiveTMaze30-v0"), 31, 32),
    "T-Maze 10, previous action": Need(lambda: previous_action(gym.make("PassiveTMaze10-v0")), 11, 16),
    "T-Maze 30, previous action": Need(lambda: previous_action(gym.make("PassiveTMaze30-v0")), 31, 32),
    "flickering CartPole": Need(lambda: FlickerWrapper(gym.make("CartPole-v1"), 0.5), 4, 16),
    "memoryless bandit": Need(Bandit, 1, 1),
    "MiniGrid-MemoryS7": Need(lambda: TASKS["MiniGrid-MemoryS7"].wrapper(gym.make("MiniGrid-MemoryS7-v0")), 5, 64),  # type: ignore[misc]
}


class Run(NamedTuple):
    """
    :param causes: names, one of which must be named first or second; empty: the run is healthy
    :param env: an id, or a class
    :param algo: class
    :param changes: arguments that differ from the benchmark's own
    :param steps: environment steps
    :param wrapper: of the environment
    :param eval_wrapper: of the evaluation's
    :param held_out: whether the doctor's limits were set without it
    :param need: as ``diagnose_env`` found
    :param saved: whether the replay buffer is saved
    :param trial: wrapper of the environment that the doctor plays in; True: that of training; None: it does not play
    :param normalizes: whether training sees ``VecNormalize``, and the trial none
    :param eval_freq: steps of training from one evaluation to the next, of all environments
    """

    causes: tuple[str, ...]
    env: Any = "CartPole-v1"
    algo: Any = RecurrentDQN
    changes: dict[str, Any] = {}  # noqa: RUF012  read only
    steps: int = 6_000
    wrapper: Any = None
    eval_wrapper: Any = None
    held_out: bool = False
    need: int | None = None
    saved: bool = False
    trial: Any = None
    normalizes: bool = False
    eval_freq: int | None = None


#: small and quick, and today's defaults otherwise
QUICK: dict[Any, dict[str, Any]] = {
    RecurrentDQN: dict(
        buffer_size=50_000, learning_starts=500, batch_size=8, sequence_length=32,
        policy_kwargs=dict(memory_kwargs=dict(hidden_size=32)),
    ),
    DQN: dict(buffer_size=50_000, learning_starts=500, learning_rate=1e-3, target_update_interval=200,
              exploration_fraction=0.2, train_freq=4, batch_size=64),
    PPO: dict(n_steps=256),
}  # fmt: skip
R = RecurrentDQN
ILL = {
    "an update every 4096 steps": Run(("few_updates",), changes=dict(train_freq=(4_096, "transition"))),
    "target copied every 10,000 updates": Run(
        ("target_rarely_copied",), changes=dict(tau=1.0, target_update_interval=10_000)
    ),
    "target copied at every update": Run(("target_follows",), changes=dict(tau=1.0, target_update_interval=1)),
    "learning rate 0.1": Run(("rate_too_large", "values_diverge"), changes=dict(learning_rate=0.1)),
    "learning rate 1e-7": Run(("rate_too_small",), changes=dict(learning_rate=1e-7)),
    "rewards times 1,000, nothing scaled": Run(
        ("values_too_large",), changes=dict(normalize_returns=False), wrapper=Scaled
    ),
    "random until the end": Run(
        ("explores_too_much",), changes=dict(exploration_final_eps=1.0, exploration_ladder=0.0)
    ),
    "windows of 4 steps": Run(
        ("window_too_short",), "PassiveTMaze30-v0", need=32,
        changes=dict(sequence_length=4, n_steps=3, state_init="zero"),
    ),
    "gamma 0.3": Run(("gamma_too_small",), changes=dict(gamma=0.3)),
    "warm-up longer than the run": Run(("no_updates",), changes=dict(learning_starts=50_000)),
    "codes divided by 255": Run(("codes_as_image",), Codes),
    "evaluated without the wrapper": Run(("evaluation_differs",), steps=12_000, eval_wrapper=Shuffled),
    "goal found a few times": Run(("rewards_rare",), Lock, saved=True),
    "time limits told as ends": Run(("limit_as_end",), "CartPoleShort-v0", wrapper=LimitAsEnd, saved=True),
    "windows of 256 steps, room for 300": Run(
        ("windows_empty",), changes=dict(buffer_size=1_200, sequence_length=256, batch_size=2), saved=True
    ),
    "states of long ago": Run(
        ("states_stale",), "PassiveTMaze30-v0", need=32, saved=True,
        changes=dict(learning_rate=4e-3, sequence_length=16, burn_in=0, n_steps=1, train_freq=(4, "transition")),
    ),
    "a wrapper eats the cue": Run(
        ("memory_not_used",), "PassiveTMaze10-v0", wrapper=CueEaten, trial=True, need=16, steps=10_000
    ),
    "played without VecNormalize": Run(
        ("evaluation_differs",), changes=dict(normalize_observations=False), normalizes=True, trial=True
    ),
    "evaluation counts in cents": Run(("evaluation_differs",), eval_wrapper=Cents),
    "an update at every step": Run(("too_many_updates",), steps=2_000, changes=dict(train_freq=(1, "transition"))),
    "evaluates after every 50 steps": Run(("evaluates_too_often",), steps=10_000, eval_freq=50),
    "never explores": Run(
        ("explores_too_little",), "PassiveTMaze10-v0",
        changes=dict(exploration_initial_eps=0.0, exploration_final_eps=0.0),
    ),
    "no episode ends": Run(("endless",), wrapper=Endless),
    "DQN: rewards times 1,000": Run(("values_too_large",), algo=DQN, wrapper=Scaled),
    "PPO: learning rate 1e-8": Run(
        ("rate_too_small", "policy_stands_still"), algo=PPO, changes=dict(learning_rate=1e-8)
    ),
    "PPO: rewards times 1,000": Run(("values_too_large",), algo=PPO, wrapper=Scaled),
    # Held out
    "goal never found": Run(("nothing_found",), "MountainCar-v0", held_out=True),
    "a buffer of 200 steps": Run(
        ("buffer_too_small",), changes=dict(buffer_size=200, learning_starts=100), held_out=True
    ),
    "gradients clipped at 1e-4": Run(("gradient_clipped",), changes=dict(max_grad_norm=1e-4), held_out=True),
    "no memory, and velocities hidden": Run(
        ("no_memory",), "CartPoleNoVel-v1", changes=dict(policy_kwargs=dict(memory_class="none")), held_out=True, need=2
    ),
    "DQN: target copied every 10,000 steps": Run(
        ("target_rarely_copied",), algo=DQN, changes=dict(target_update_interval=10_000), held_out=True
    ),
    "PPO: learning rate 0.1": Run(
        ("rate_too_large", "steps_too_large", "policy_collapsed"), algo=PPO, changes=dict(learning_rate=0.1),
        held_out=True,
    ),
    "DQN: time limits told as ends": Run(
        ("limit_as_end",), "CartPoleShort-v0", algo=DQN, wrapper=LimitAsEnd, saved=True, held_out=True
    ),
    "DQN: goal found a few times": Run(("rewards_rare",), Lock, algo=DQN, saved=True, held_out=True),
    "evaluated with a longer limit": Run(
        ("evaluation_differs",), "CartPoleShort-v0", steps=12_000, eval_wrapper=Longer, held_out=True
    ),
    "played in other units": Run(("evaluation_differs",), saved=True, trial=Large, held_out=True),
    "GRU: a wrapper eats the cue": Run(
        ("memory_not_used",), "PassiveTMaze30-v0", wrapper=CueEaten, trial=True, need=32, held_out=True,
        changes=dict(policy_kwargs=dict(memory_class="gru", memory_kwargs=dict(hidden_size=32))),
    ),
    "DQN: 32 updates a step": Run(
        ("too_many_updates",), algo=DQN, steps=2_000, changes=dict(train_freq=1, gradient_steps=32), held_out=True
    ),
    "DQN: learning rate 1e-7": Run(("rate_too_small",), algo=DQN, changes=dict(learning_rate=1e-7), held_out=True),
}  # fmt: skip
HEALTHY = {
    "CartPole-v1, RecurrentDQN": Run((), steps=20_000),
    "CartPoleNoVel-v1, RecurrentDQN": Run((), "CartPoleNoVel-v1", steps=20_000, need=2, saved=True, trial=True),
    "T-Maze 10, RecurrentDQN": Run((), "PassiveTMaze10-v0", steps=25_000, wrapper=previous_action, need=16, saved=True),
    "codes as they are, RecurrentDQN": Run(
        (), Codes, changes=dict(policy_kwargs=dict(normalize_images=False, memory_kwargs=dict(hidden_size=32)))
    ),
    "memoryless bandit, RecurrentDQN": Run((), Bandit, saved=True, trial=True, need=1),
    "RepeatPreviousEasy, RecurrentDQN": Run(
        (), "popgym-RepeatPreviousEasy-v0", steps=20_000, wrapper=PopgymWrapper, need=4, saved=True, trial=True,
        changes=dict(gamma=0.5),
    ),
    "CartPole-v1, PPO": Run((), algo=PPO, steps=15_000),
    "CartPole-v1, DQN": Run((), algo=DQN, steps=20_000, changes=dict(
        learning_rate=2.3e-3, train_freq=256, gradient_steps=128, target_update_interval=10, exploration_fraction=0.16,
        exploration_final_eps=0.04, policy_kwargs=dict(net_arch=[256, 256]))),
}  # fmt: skip
