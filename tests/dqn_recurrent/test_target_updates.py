"""The target network moves as Stable-Baselines3's ``polyak_update`` would move it."""

import copy

import gymnasium as gym
import pytest
import torch as th
from stable_baselines3.common.utils import polyak_update

from sb3_attnmem import RecurrentDQN


@pytest.mark.parametrize("tau", [0.005, 0.5, 0.75, 1.0])
def test_target_update_equals_polyak_update(tau: float) -> None:
    model = RecurrentDQN("MlpPolicy", gym.make("CartPole-v1"), tau=tau, buffer_size=1_000, device="cpu", seed=0)
    with th.no_grad():
        for weight in model.q_net.parameters():
            weight.add_(th.randn_like(weight))
    expected = copy.deepcopy(model.q_net_target)
    polyak_update(model.q_net.parameters(), expected.parameters(), tau)
    online = [weight.clone() for weight in model.q_net.parameters()]
    model.gather_weights()
    model.update_target()
    for name, weight in expected.named_parameters():
        moved = model.q_net_target.get_parameter(name)
        assert th.allclose(moved, weight, rtol=1e-6, atol=1e-7), name
        assert not moved.requires_grad or moved.grad is None
    for before, after in zip(online, model.q_net.parameters(), strict=True):
        assert th.equal(before, after)
        if tau == 1.0:
            assert any(th.equal(after, weight) for weight in model.q_net_target.parameters())
