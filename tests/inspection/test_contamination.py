"""Foreign history in memories whose answer is known."""

import math
from typing import Any

import numpy as np
import pytest

from sb3_attnmem.envs import PassiveTMaze
from sb3_attnmem.inspection.common import check_env
from sb3_attnmem.inspection.memory.contamination import Contaminated, contamination, words_of
from sb3_attnmem.inspection.memory.playing import FullMemory, play_episodes
from tests.inspection.memory_toys import Repeat, maze_walker, plain, repeater


def found_in(model: Any, env: Any, n_episodes: int = 8) -> tuple[list[Contaminated], list[Any]]:
    full = play_episodes(
        model, check_env(model, env), FullMemory(model.q_net), n_episodes, 0, 50, lambda n: None, keep=True
    )
    return contamination(model.q_net, full.episodes, np.random.default_rng(0)), full.episodes


@pytest.mark.parametrize("lag", [0, 2])
def test_what_a_memory_of_five_does_not_read_again_is_gone(lag: int) -> None:
    """It reads the token of ``lag`` steps ago: a foreign one for so many steps, then only its own."""
    found, _ = found_in(repeater(lag), Repeat(lag))
    assert [one.k for one in found] == [1, 4] and {one.n_pairs for one in found} == {8}
    for one in found:
        assert one.recovery == lag and one.never == 0 and len(one.gaps) == 12
        assert (one.gaps[lag:] < 1e-6).all()
    if lag:
        # With one foreign step there was nothing before it, at the first step as in a clean memory
        assert found[0].gaps[0] < 1e-6 < found[0].gaps[1] and found[1].gaps[0] > 0.1
        assert "after 2 steps" in words_of(found)
    else:
        assert words_of(found) == "Foreign history left in its memory does not move its Q-values."


def test_a_cue_that_is_never_forgotten() -> None:
    """It goes by the first observation it ever saw: the cue that stood before four foreign steps, right or wrong."""
    found, episodes = found_in(maze_walker(PassiveTMaze(corridor_length=4)), PassiveTMaze(corridor_length=4), 12)
    cues = [float(episode.features[0, 1]) for episode in episodes]
    assert len(set(cues)) == 2, "both cues are among them"
    assert [one.k for one in found] == [1, 4] and 0 < found[1].never < 1
    assert found[0].never > found[1].never, "a step of the corridor is no cue"


def test_fragile_ones_are_called_so() -> None:
    lasting = Contaminated(4, np.ones(3), math.inf, 0.75, 8)
    assert "75 % of the episodes end before" in words_of([lasting]) and "fragile" in words_of([lasting])


def test_nothing_to_contaminate() -> None:
    assert found_in(plain(Repeat(0), "none"), Repeat(0))[0] == []
    assert found_in(repeater(1), Repeat(1), 1)[0] == []
    assert words_of([]) == ""
