import numpy as np
import pytest

from sb3_attnmem.common.names import did_you_mean, nearest
from sb3_attnmem.common.observations import (
    arrays_of,
    check_finite,
    copy_observation,
    map_observation,
    n_rows,
    named_arrays,
    rows_of,
)

ARRAY = np.arange(6).reshape(3, 2)
DICT = {"a": ARRAY, "b": 10 * ARRAY}


def test_the_same_is_done_to_an_array_and_to_each_of_a_dict():
    assert np.array_equal(map_observation(np.add, ARRAY, ARRAY), 2 * ARRAY)
    added = map_observation(np.add, DICT, DICT)
    assert list(added) == ["a", "b"] and np.array_equal(added["b"], 20 * ARRAY)
    assert n_rows(ARRAY) == n_rows(DICT) == 3
    assert [key for key, _ in named_arrays(ARRAY)] == [None] and [key for key, _ in named_arrays(DICT)] == ["a", "b"]
    assert len(arrays_of(ARRAY)) == 1 and len(arrays_of(DICT)) == 2
    mask = np.array([True, False, True])
    assert np.array_equal(rows_of(ARRAY, mask), ARRAY[mask]) and np.array_equal(
        rows_of(DICT, mask)["b"], 10 * ARRAY[mask]
    )


def test_a_copy_does_not_follow_what_it_was_made_from():
    original = {"a": np.zeros(2)}
    copied = copy_observation(original)
    original["a"] += 1
    assert not copied["a"].any()


def test_the_nearest_name_is_found_whatever_its_case():
    assert nearest("LSMT", ["lstm", "gru"]) == "lstm" and nearest("qqq", ["lstm"]) is None
    assert nearest("cartpole-v1", ["CartPole-v1"]) == "CartPole-v1"
    assert did_you_mean("lsmt", ["lstm"]) == " Did you mean 'lstm'?" and did_you_mean("qqq", ["lstm"]) == ""


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_named(bad):
    check_finite("reward", np.zeros(3))
    check_finite("reward", [1, 2])
    check_finite("observation", {"a": np.array([1]), "b": np.zeros((2, 2))})
    with pytest.raises(ValueError, match=r"reward of environment\(s\) \[0, 2\] is not finite: "):
        check_finite("reward", np.array([bad, 0.0, bad]))
    with pytest.raises(ValueError, match=r"observation 'b' of environment\(s\) \[1\] is not finite: .*mend it"):
        check_finite("observation", {"a": np.zeros(2), "b": np.array([[0, 0], [0, bad]])}, hint="mend it")
    with pytest.raises(ValueError, match=r"final observation of environment\(s\) \[5\]"):
        check_finite("final observation", np.array([bad, 1.0]), env=5)
