"""Which observation Q-values rest on, in agents whose answer is known."""

from typing import Any

import numpy as np
import pytest

from sb3_attnmem.envs import PassiveTMaze
from sb3_attnmem.inspection.common import check_env
from sb3_attnmem.inspection.memory.exchange import N_DONORS, Exchanged, exchange, words_of_exchange
from sb3_attnmem.inspection.memory.playing import FullMemory, play_episodes
from tests.inspection.memory_toys import Repeat, maze_walker, plain, repeater


def found_in(model: Any, env: Any, n_episodes: int = 12) -> Exchanged | None:
    full = play_episodes(
        model, check_env(model, env), FullMemory(model.q_net), n_episodes, 0, 500, lambda n: None, keep=True
    )
    return exchange(model.q_net, full.episodes, np.random.default_rng(0))


@pytest.mark.parametrize("length", [4, 20, 150])
def test_the_cue_is_named(length: int) -> None:
    """In 150 steps it lies in a block of several."""
    env = PassiveTMaze(corridor_length=length)
    found = found_in(maze_walker(env), env)
    assert found is not None and (found.step, found.cause) == (length, 0)
    # The cue is 1 or -1, and Q-values of the junction up and down are 0 ± 1 and 0 ∓ 1: √(2² + 2²) over the largest, 1
    assert found.gap == pytest.approx(8**0.5) and found.other_actions == 1 and found.others == 0
    assert 1 <= found.n_exchanges <= N_DONORS
    assert len(found.begins) == min(length + 1, 64) and found.gaps.shape == (length + 1, len(found.begins))
    assert np.isnan(found.gaps[0, 1:]).all() and (found.gaps[length, 1:] == 0).all()
    assert f"step {length} rest on observation 0 most, {length} steps back" in words_of_exchange(found)
    assert "changes the action in 100 %" in words_of_exchange(found)


@pytest.mark.parametrize("lag", [1, 3])
def test_the_token_that_it_names_again(lag: int) -> None:
    found = found_in(repeater(lag), Repeat(lag))
    assert found is not None and found.step - found.cause == lag
    # One-hot Q-values, 1 the largest: another token is √2 away, and every exchange names another
    assert found.gap == pytest.approx(2**0.5) and found.other_actions == 1 and found.others == 0


def test_what_lies_in_the_present_is_not_the_past() -> None:
    found = found_in(repeater(0), Repeat(0))
    assert found is not None and found.gap == 0
    assert (
        words_of_exchange(found) == "Past observations exchanged for those of another episode do not move its Q-values."
    )


def test_nothing_to_exchange() -> None:
    assert found_in(plain(Repeat(0), "none"), Repeat(0)) is None, "no memory"
    assert found_in(repeater(1), Repeat(1), 1) is None, "no other episode"
    assert words_of_exchange(None) == ""
