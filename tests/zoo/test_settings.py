"""Settings that others wrote are data: they are read, and nothing in them runs."""

import os
from typing import Any

import numpy as np
import optuna
import pytest
import torch as th
from rl_zoo3.hyperparams_opt import sample_td3_params
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from torch import nn

from sb3_attnmem import PrioritizedSequenceReplayBuffer
from sb3_attnmem.extractors import SpatialAttentionCNN
from sb3_attnmem.zoo import register
from sb3_attnmem.zoo.literals import parse_literal
from sb3_attnmem.zoo.settings import as_settings, classes_named, read_settings, to_yaml

register()


class MyNetwork(nn.Module):
    """A class of the user's own."""


MINE = f"{MyNetwork.__module__}.MyNetwork"


@pytest.fixture(name="ran")
def _ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was run, if anything was."""
    ran: list[str] = []
    monkeypatch.setattr(os, "system", ran.append)
    return ran


RUNS = [
    "__import__('os').system('x')",
    "dict(a=__import__('os').system('x'))",
    "get_class_by_name('os.system')",
    "[get_class_by_name('os.system')('x')]",
    "(lambda: __import__('os').system('x'))()",
    "[i for i in [__import__('os').system('x')]]",
    "f\"{__import__('os').system('x')}\"",
    "dict(**{'a': 1})",
    "{**{}}",
    "th.load",
    "th.nn.Module.__init__",
    "nn.ReLU()",
    "get_class_by_name('sb3_attnmem.__main__')",
    "(" * 500,
    "1 +",
    "",
]


@pytest.mark.parametrize("text", RUNS)
def test_what_is_no_data_is_refused_and_not_run(text: str, ran: list[str]) -> None:
    with pytest.raises(ValueError, match=r"not data|not a class|not an expression"):
        parse_literal(text)
    with pytest.raises(ValueError, match="settings: policy_kwargs"):
        read_settings(dict(policy_kwargs=text), "rdqn")
    assert not ran


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("dict(net_arch=[64, 64], a=(1, -2.5), b={'x': None, 3: True})", None),
        ("get_class_by_name('sb3_attnmem.extractors.SpatialAttentionCNN')", SpatialAttentionCNN),
        ("get_class_by_name('sb3_attnmem.PrioritizedSequenceReplayBuffer')", PrioritizedSequenceReplayBuffer),
        ("get_class_by_name('torch.optim.adamw.AdamW')", th.optim.AdamW),
        ("th.optim.AdamW", th.optim.AdamW),
        ("nn.LeakyReLU", nn.LeakyReLU),
        ("th.nn.Tanh", nn.Tanh),
        ("th.float16", th.float16),
        ("HerReplayBuffer", HerReplayBuffer),
        ("dict(optimizer_class=RMSpropTFLike)", dict(optimizer_class=RMSpropTFLike)),
        ("1e-5", 1e-5),
    ],
)
def test_what_rl_zoo3_would_evaluate_is_read_alike(text: str, value: Any) -> None:
    expected = eval(text) if value is None else value
    assert parse_literal(text) == expected


def test_a_class_of_the_user_s_own_settings_may_be_named() -> None:
    text = f"dict(features_extractor_class=get_class_by_name('{MINE}'))"
    with pytest.raises(ValueError, match=r"'tests.*MyNetwork' is not a class"):
        read_settings(dict(policy_kwargs=text), "rdqn")
    own = [dict(policy_kwargs=text), dict(policy_kwargs=dict(features_extractor_class=[MyNetwork]))]
    for settings in own:
        assert classes_named(settings) == {MyNetwork}
        assert read_settings(dict(policy_kwargs=text), "rdqn", classes_named(settings)) == dict(
            policy_kwargs=f"{{'features_extractor_class': get_class_by_name('{MINE}')}}"
        )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (dict(policy="os.system"), "'policy'"),
        (dict(env_wrapper="os.system"), "'env_wrapper'"),
        (dict(vec_env_wrapper="os.system"), "'vec_env_wrapper'"),
        (dict(callback="os.system"), "'callback'"),
        (dict(normalize="__import__('os').system('x')"), "'normalize'"),
        (dict(monitor_kwargs="__import__('os').system('x')"), "'monitor_kwargs'"),
        (dict(replay_buffer_class="'__import__(\"os\").system(1)'"), "a string within a string"),
        (dict(replay_buffer_kwargs="'1'"), "a string within a string"),
        (dict(replay_buffer_class="get_class_by_name('subprocess.Popen')"), "not a class"),
        ("policy_kwargs", "must be a dict"),
    ],
)
def test_settings_of_a_study_are_what_a_search_draws(settings: Any, said: str, ran: list[str]) -> None:
    with pytest.raises(ValueError, match=said):
        read_settings(settings, "rdqn")
    assert not ran


def test_noise_goes_into_the_words_of_the_zoo() -> None:
    """What rl_zoo3 draws for TD3 can be written, and read."""
    study, kinds = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)), set()
    for _ in range(12):
        trial = study.ask()
        drawn = sample_td3_params(trial, 2, 1, dict(using_her_replay_buffer=False))
        settings = read_settings(as_settings(drawn), "td3")
        kinds.add(settings.get("noise_type"))
        if "noise_type" in settings:
            assert settings["noise_std"] == trial.params["noise_std"]
    assert kinds == {None, "normal", "ornstein-uhlenbeck"}
    for noise in (NormalActionNoise, OrnsteinUhlenbeckActionNoise):
        settings = as_settings(dict(action_noise=noise(np.zeros(2), 0.25 * np.ones(2))))
        assert settings["noise_std"] == 0.25 and "action_noise" not in settings


def test_what_a_file_cannot_hold_is_told() -> None:
    with pytest.raises(TypeError, match="cannot be written into a YAML file"):
        to_yaml("env", dict(env_wrapper=[MyNetwork]), [])
