"""What Optuna searches for ``rdqn`` and ``rqrdqn``, with or without the RL Zoo."""

import inspect
import math
from typing import Any

import optuna
import torch as th
from stable_baselines3.common.utils import LinearSchedule

from sb3_attnmem.extractors import AttentionExtractor, PretrainedExtractor, get_extractor_class
from sb3_attnmem.memory import get_memory_class
from sb3_attnmem.replay import PrioritizedSequenceReplayBuffer
from sb3_attnmem.replay.capacity import choose_state_interval

#: memories that are worth a search: those whose update takes at most twice an LSTM's time, and the cheapest transformer
MEMORIES = ("lstm", "gru", "min_gru", "lru", "ffm", "window")
#: option -> the memories that take it
MEMORY_OPTIONS = {
    "num_layers": ("lstm", "gru", "min_gru", "lru", "window"),
    "horizon": ("lstm", "gru", "min_gru"),
    "window": ("window",),
}

#: bytes of stored states that a transition of the replay buffer may take: a million of them 2 GB
STATE_BYTES = 2_048

#: argument of an attention extractor -> what is searched, where the extractor takes it
EXTRACTOR_OPTIONS: dict[str, list[Any]] = {
    "features_dim": [64, 128, 256, 512],
    "embed_dim": [32, 64, 128],
    "n_heads": [1, 2, 4, 8],
    "n_layers": [1, 2, 3],
    "pooling": ["attention", "max"],
    "dropout": [0.0, 0.1],
    "kind": ["se", "cbam"],
    "reduction": [2, 4, 8],
    "positions": ["learned", "rotary"],
}


def sample_extractor_kwargs(trial: optuna.Trial, extractor_class: Any) -> dict[str, Any]:
    """
    :param trial: to draw from
    :param extractor_class: of the policy; None, or one that is not ours, has nothing to search
    :return: its ``features_extractor_kwargs``
    """
    if isinstance(extractor_class, str):
        extractor_class = get_extractor_class(extractor_class)
    if not (isinstance(extractor_class, type) and issubclass(extractor_class, AttentionExtractor)):
        return {}
    takes = set(inspect.signature(extractor_class.__init__).parameters)
    if issubclass(extractor_class, PretrainedExtractor):
        takes.discard("n_heads")  # they must divide the width of its module, which is not known here
    return {
        name: trial.suggest_categorical(f"extractor_{name}", choices)
        for name, choices in EXTRACTOR_OPTIONS.items()
        if name in takes
    }


def sample_rdqn_params(
    trial: optuna.Trial, n_actions: int = 0, n_envs: int = 1, additional_args: dict[str, Any] | None = None
) -> dict[str, Any]:
    """
    :param trial: to draw from
    :param n_actions: not used: rl_zoo3 passes it
    :param n_envs: environments, which a replay ratio is worth as many steps of
    :param additional_args: not used: rl_zoo3 passes it
    :return: arguments of ``RecurrentDQN``, besides policy and environment
    """
    trial.suggest_float("one_minus_gamma", 1e-3, 0.5, log=True)
    trial.suggest_float("learning_rate", 1e-4, 3e-3, log=True)
    trial.suggest_categorical("lr_schedule", ["constant", "linear"])
    if trial.suggest_categorical("optimizer", ["adam", "adamw"]) == "adamw":
        trial.suggest_float("weight_decay", 1e-6, 1e-2, log=True)
    # A batch of 256 to 2,048 learning steps, cut into sequences of 8 to 64
    trial.suggest_int("batch_steps_pow", 8, 11)
    trial.suggest_int("sequence_length_pow", 3, 6)
    if trial.suggest_categorical("burn_in_share", [0.0, 0.25, 0.5]) > 0:
        trial.suggest_categorical("refresh_states", [False, True])
    trial.suggest_categorical("n_steps", [1, 3, 5])
    trial.suggest_categorical("watkins", [True, False])  # whether n-step returns stop at other actions than one's own
    trial.suggest_float("replay_ratio", 1.0, 64.0, log=True)
    trial.suggest_float("exploration_fraction", 0.05, 0.5)
    trial.suggest_float("exploration_final_eps", 0.01, 0.5, log=True)
    trial.suggest_categorical("exploration_ladder", [0.0, 7.0])
    if trial.suggest_categorical("target", ["soft", "hard"]) == "soft":
        trial.suggest_float("tau", 0.005, 0.2, log=True)
    else:
        trial.suggest_int("target_update_interval", 25, 2_500, log=True)
    trial.suggest_categorical("value_rescaling", [False, True])
    trial.suggest_categorical("dueling", [False, True])
    if trial.suggest_categorical("prioritized", [False, True]):
        trial.suggest_float("priority_exponent", 0.3, 1.0)
    memory = trial.suggest_categorical("memory_class", list(MEMORIES))
    trial.suggest_int("hidden_size_pow", 5, 8)
    if memory in MEMORY_OPTIONS["num_layers"]:
        trial.suggest_int("num_layers", 1, 2)
    if memory in MEMORY_OPTIONS["horizon"]:
        trial.suggest_categorical("horizon", [1, 10, 100])
    if memory in MEMORY_OPTIONS["window"]:
        trial.suggest_int("window", 8, 64, log=True)
    trial.suggest_categorical("memory_fusion", ["none", "gate", "concat", "residual"])
    hyperparams = convert_rdqn_params({**trial.params, "n_envs": n_envs})
    # What was drawn, in the words of RecurrentDQN, for who reads the study
    for name in ("gamma", "batch_size", "sequence_length", "burn_in", "train_freq"):
        trial.set_user_attr(name, hyperparams[name])
    return hyperparams


def sample_rqrdqn_params(
    trial: optuna.Trial, n_actions: int = 0, n_envs: int = 1, additional_args: dict[str, Any] | None = None
) -> dict[str, Any]:
    """
    :param trial: to draw from
    :param n_actions: not used: rl_zoo3 passes it
    :param n_envs: environments, which a replay ratio is worth as many steps of
    :param additional_args: not used: rl_zoo3 passes it
    :return: arguments of ``RecurrentQRDQN``, besides policy and environment
    """
    trial.suggest_categorical("n_quantiles", [10, 25, 50, 100])
    return sample_rdqn_params(trial, n_actions, n_envs, additional_args)


def convert_rdqn_params(sampled_params: dict[str, Any]) -> dict[str, Any]:
    """
    :param sampled_params: the parameters of a trial, and ``n_envs`` where there are several environments
    :return: arguments of ``RecurrentDQN``, or with ``n_quantiles`` of ``RecurrentQRDQN``, besides policy and
        environment
    """
    sampled = sampled_params
    sequence_length = 2 ** sampled["sequence_length_pow"]
    batch_size = max(2 ** sampled["batch_steps_pow"] // sequence_length, 1)
    train_freq = max(round(batch_size * sequence_length / sampled["replay_ratio"]), 1)
    rate = sampled["learning_rate"]
    hyperparams: dict[str, Any] = dict(
        gamma=1 - sampled["one_minus_gamma"],
        learning_rate=LinearSchedule(rate, 0.0, 1.0) if sampled["lr_schedule"] == "linear" else rate,
        batch_size=batch_size,
        sequence_length=sequence_length,
        burn_in=int(sequence_length * sampled["burn_in_share"]),
        refresh_states=sampled.get("refresh_states", False),
        train_freq=(train_freq, "transition"),
        gradient_steps=1,
        target_update_unit="updates",
        target_update_interval=sampled.get("target_update_interval", 1),
        tau=sampled.get("tau", 1.0),
    )
    for name in ("n_steps", "exploration_fraction", "exploration_final_eps", "value_rescaling"):
        hyperparams[name] = sampled[name]
    # Studies of before version 0.3 did not ask
    hyperparams["watkins_tolerance"] = 0.1 if sampled.get("watkins", False) else math.inf
    hyperparams["exploration_ladder"] = sampled.get("exploration_ladder", 0.0)
    if sampled["prioritized"]:
        hyperparams["replay_buffer_class"] = PrioritizedSequenceReplayBuffer
        hyperparams["replay_buffer_kwargs"] = dict(priority_exponent=sampled["priority_exponent"])
    memory_kwargs = {name: sampled[name] for name in MEMORY_OPTIONS if name in sampled}
    memory_kwargs["hidden_size"] = 2 ** sampled["hidden_size_pow"]
    _make_states_fit(hyperparams, sampled["memory_class"], memory_kwargs)
    policy_kwargs: dict[str, Any] = dict(
        memory_class=sampled["memory_class"],
        memory_kwargs=memory_kwargs,
        memory_fusion=sampled["memory_fusion"],
        dueling=sampled["dueling"],
    )
    if "n_quantiles" in sampled:
        policy_kwargs["n_quantiles"] = sampled["n_quantiles"]
    if sampled["optimizer"] == "adamw":
        policy_kwargs["optimizer_class"] = th.optim.AdamW
        policy_kwargs["optimizer_kwargs"] = dict(weight_decay=sampled["weight_decay"])
    return {**hyperparams, "policy_kwargs": policy_kwargs}


def _make_states_fit(hyperparams: dict[str, Any], memory_class: str, memory_kwargs: dict[str, Any]) -> None:
    """
    Store states less often where they are large (the window of a transformer), or not at all: at the buffer's own
    interval they would take many times what its observations do.
    """
    state = get_memory_class(memory_class)(1, **memory_kwargs).initial_state(1)
    n_bytes = sum(part.numel() * part.element_size() for part in state)
    common = math.gcd(hyperparams["sequence_length"], hyperparams["burn_in"])
    intervals = [steps for steps in range(1, common + 1) if common % steps == 0]
    default = choose_state_interval(None, hyperparams["sequence_length"], hyperparams["burn_in"])
    if n_bytes / default <= STATE_BYTES:
        return
    fitting = [steps for steps in intervals if n_bytes / steps <= STATE_BYTES]
    if fitting:
        kwargs = hyperparams.get("replay_buffer_kwargs", {})
        hyperparams["replay_buffer_kwargs"] = {**kwargs, "state_interval": min(fitting)}
    else:
        hyperparams["state_init"] = "zero"
        hyperparams["refresh_states"] = False
