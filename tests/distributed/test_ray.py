"""Actors in processes of their own. Ray's start is slow, so few tests do much each; the rest needs no Ray."""

import builtins
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch as th

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.distributed import ActorError, learn_with_actors
from tests.distributed.told import make_told, places_of, read_told
from tests.dqn_recurrent.conformance.reference import check_rows, every_window, learned
from tests.dqn_recurrent.worlds import make_learner, make_world
from tests.ledger import LSTM, make_model


def test_in_lockstep_ray_and_one_process_learn_the_same(ray_runs: None) -> None:
    """Bit for bit, although the actors work side by side."""
    models: list[RecurrentDQN] = []
    for executor in ("serial", "ray"):
        model = make_learner(normalize_observations=True, normalize_returns=True, target_update_unit="updates")
        options: dict[str, Any] = dict(
            executor=executor, lockstep=True, chunk_steps=8, weights_interval=2, num_cpus=0.5
        )
        models.append(learn_with_actors(model, make_world, 2, 320, **options))
    serial, on_ray = models
    assert serial._n_updates == on_ray._n_updates > 15
    for (name, one), other in zip(serial.q_net.state_dict().items(), on_ray.q_net.state_dict().values(), strict=True):
        assert th.equal(one, other), name


@pytest.mark.slow  # an actor that hangs takes its timeout
def test_actors_that_are_killed_raise_or_hang_are_replaced(ray_runs: None, tmp_path: Path) -> None:
    """The ledger of three processes: nothing is lost but what actors that failed had not handed over."""
    failures = {"kill": 40, "raise": 61, "hang": 83}
    make_env = partial(make_told, str(tmp_path), failures)
    model = make_model(make_told(str(tmp_path), {}), policy_kwargs=LSTM, buffer_size=6_000)  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match="begins anew") as warned:
        learn_with_actors(model, make_env, 2, 2 * 2 * 150, chunk_steps=10, num_cpus=0.5, timeout=20, max_failures=5)
    reasons = " ".join(str(warning.message) for warning in warned)
    assert "told to fail" in reasons and "no answer for 20 seconds" in reasons and "ActorDiedError" in reasons
    assert {"kill", "raise", "hang"} <= {path.name for path in tmp_path.iterdir()}

    tapes, episodes = model.replay_buffer.tapes, read_told(tmp_path)  # type: ignore[union-attr]
    assert tapes is not None and tapes.n_transitions() == model.num_timesteps == 2 * 2 * 150
    batch = every_window(model)
    stored = set(learned(batch))
    assert len(stored) == tapes.n_transitions(), "something is stored twice"
    lost = places_of(episodes) - stored
    assert stored <= places_of(episodes)
    by_env: dict[int, int] = {}
    for place in lost:
        by_env[place.env] = by_env.get(place.env, 0) + 1
        later = {other for other in stored if other[:2] == place[:2] and other.step > place.step}
        assert not later, "what came after a loss is on the tape of before"
    assert all(n <= 2 * 10 for n in by_env.values()), "at most two chunks an environment"
    for key, episode in episodes.items():  # what was lost, the learner never heard of
        kept = [place.step for place in stored if place[:2] == key]
        if len(kept) < len(episode.actions):
            del episode.actions[len(kept) :], episode.rewards[len(kept) :]
            episode.end = "cut"
    check_rows(batch, episodes, model.sequence_length)


@pytest.mark.slow
def test_an_environment_that_cannot_be_made_is_told_of(ray_runs: None) -> None:
    def make_env() -> Any:
        raise OSError("the simulator's licence has run out")

    with pytest.raises(ActorError, match=r"(?s)Actor \d failed 2 times in a row.*make_env.*licence has run out"):
        with pytest.warns(UserWarning, match="licence has run out"):
            learn_with_actors(make_learner(), make_env, 2, 100, chunk_steps=5, num_cpus=0.5, max_failures=1)


INTERRUPTED = """
import os, signal, sys
import psutil
from stable_baselines3.common.callbacks import BaseCallback
from sb3_attnmem.distributed import learn_with_actors
from tests.dqn_recurrent.worlds import make_learner, make_world

class CtrlC(BaseCallback):
    def _on_step(self):
        if self.n_calls == 20:
            print("children", *(child.pid for child in psutil.Process().children(recursive=True)), flush=True)
            os.kill(os.getpid(), signal.SIGINT)
        return True

try:
    learn_with_actors(make_learner(), make_world, 1, 10**6, chunk_steps=8, callback=CtrlC())
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.slow
def test_ctrl_c_leaves_no_process_and_says_how_to_go_on() -> None:
    """Ray is started and ended by ``learn_with_actors`` itself."""
    pytest.importorskip("ray", reason='Ray is not installed: pip install "sb3_attnmem[ray]"')
    import psutil

    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], cwd=root, capture_output=True, text=True, timeout=600)
    assert "interrupted" in done.stdout and "To go on: load_checkpoint" in done.stdout, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("children")]
    children = [int(word) for word in line.split()[1:]]
    assert len(children) >= 3, "Ray's processes and an actor"
    _, alive = psutil.wait_procs([psutil.Process(pid) for pid in children if psutil.pid_exists(pid)], timeout=60)
    assert not alive


def test_without_ray_the_error_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "ray":
            raise ModuleNotFoundError("No module named 'ray'", name="ray")
        return theirs(name, *args, **kwargs)

    model = make_learner()
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r'pip install "sb3_attnmem\[ray\]", or pass executor="serial"'):
        learn_with_actors(model, make_world, 2, 100, chunk_steps=5)
    assert model.num_timesteps == 0
