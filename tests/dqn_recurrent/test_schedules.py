"""When and how to train: frequencies, target updates, schedules, optimisers, clipping."""

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.callbacks import (
    BaseCallback,
)
from stable_baselines3.common.utils import LinearSchedule

from sb3_attnmem import RecurrentDQN
from tests.dqn_recurrent.worlds import SMALL, World, make_learner


def test_an_update_after_every_episode() -> None:
    model = make_learner(World(), train_freq=(1, "episode"), learning_starts=0)
    n_updates: list[int] = []

    class Counts(BaseCallback):
        def _on_step(self) -> bool:
            n_updates.append(self.model._n_updates)  # type: ignore[attr-defined]
            return True

    model.learn(35, Counts())
    assert n_updates == [step // 7 for step in range(35)]


def test_as_many_updates_as_steps() -> None:
    model = make_learner(gradient_steps=-1, train_freq=5, learning_starts=0)
    model.learn(40)
    assert model._n_updates == model.num_timesteps == 40


@pytest.mark.parametrize(("tau", "interval"), [(1.0, 8), (0.25, 2)])
def test_target_updates(tau: float, interval: int) -> None:
    """Every ``target_update_interval`` environment steps the target moves by tau towards the online network."""
    model = make_learner(tau=tau, target_update_interval=interval, learning_starts=0, train_freq=1)
    expected = {key: weight.detach().clone() for key, weight in model.q_net_target.named_parameters()}

    class Watches(BaseCallback):
        def _on_step(self) -> bool:
            for key, tensor in model.q_net_target.named_parameters():
                assert th.allclose(tensor, expected[key], atol=1e-6), key
            if self.n_calls % (interval // 2) == 0:  # two environments
                for key, tensor in model.q_net.named_parameters():
                    expected[key].mul_(1 - tau).add_(tau * tensor.detach())
            return True

    model.learn(60, Watches())
    assert any(not th.equal(tensor, expected[key]) for key, tensor in model.q_net.named_parameters())


def test_learning_rate_schedules() -> None:
    model = make_learner(learning_rate=LinearSchedule(1e-2, 0.0, 1.0), train_freq=1)
    rates: list[float] = []

    class Watches(BaseCallback):
        def _on_step(self) -> bool:
            rates.append(model.policy.optimizer.param_groups[0]["lr"])
            return True

    model.learn(80, Watches())
    late = rates[10:]
    np.testing.assert_allclose(late, 1e-2 * (1 - np.arange(20, 80, 2) / 80), rtol=1e-6)


def test_adamw_with_weight_decay() -> None:
    kwargs = dict(SMALL, optimizer_class=th.optim.AdamW, optimizer_kwargs=dict(weight_decay=0.1))
    model = make_learner(policy_kwargs=kwargs, learning_rate=1e-3, train_freq=1)
    optimizer = model.policy.optimizer
    assert isinstance(optimizer, th.optim.AdamW) and optimizer.param_groups[0]["weight_decay"] == 0.1
    assert len(optimizer.param_groups[0]["params"]) == len(list(model.q_net.parameters())), "the online network only"
    model.learn(200)
    plain = make_learner(learning_rate=1e-3, train_freq=1).learn(200)

    def size(of: RecurrentDQN) -> float:
        return sum(parameter.square().sum().item() for parameter in of.q_net.parameters())

    assert size(model) < size(plain)


def test_gradients_are_clipped() -> None:
    model = make_learner(max_grad_norm=1e-3, learning_starts=0).learn(20)
    norm = th.stack([parameter.grad.norm() for parameter in model.q_net.parameters()]).norm()  # type: ignore[union-attr]
    assert model.logger.name_to_value["train/grad_norm"] > 1e-3, "logged as it was before"
    assert norm <= 1e-3 * 1.001
