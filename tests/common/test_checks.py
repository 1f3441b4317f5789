import math

import numpy as np
import pytest

from sb3_attnmem.common.checks import check_choice, check_flag, check_integer, check_integers, check_keys, check_number


@pytest.mark.parametrize("value", [1, 7, np.int64(3), np.uint8(3)])
def test_integers_are_taken_and_become_pythons(value):
    checked = check_integer("n", value)
    assert checked == value and type(checked) is int


@pytest.mark.parametrize("value", [True, np.bool_(True), 0, -1, 2.0, "2", None, math.nan, np.float64(2)])
def test_what_is_no_integer_of_at_least_one_is_refused(value):
    with pytest.raises(ValueError, match=r"n=.* must be an integer of at least 1"):
        check_integer("n", value)


def test_limits_of_integers_are_inclusive():
    assert check_integer("n", 0, least=0, most=2) == 0 and check_integer("n", 2, least=0, most=2) == 2
    with pytest.raises(ValueError, match="n=3 must be an integer from 0 to 2"):
        check_integer("n", 3, least=0, most=2)


@pytest.mark.parametrize("value", [0, 0.5, 1, np.float32(0.5), np.int64(1)])
def test_numbers_are_taken(value):
    checked = check_number("x", value, least=0, most=1)
    assert checked == value and type(checked) is float


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, math.inf, -math.inf, "0.5", None, True, np.float64("nan")])
def test_what_is_no_number_in_the_limits_is_refused(value):
    with pytest.raises(ValueError, match=r"x=.* must be a finite number at least 0 and at most 1\. A share"):
        check_number("x", value, least=0, most=1, hint="A share.")


def test_open_limits():
    with pytest.raises(ValueError, match="x=0 must be a finite number above 0"):
        check_number("x", 0, above=0)
    with pytest.raises(ValueError, match="x=1 must be a finite number below 1"):
        check_number("x", 1, below=1)


def test_flags():
    assert check_flag("f", True) is True and check_flag("f", np.bool_(False)) is False
    for value in (0, 1, "no", None, np.int64(1)):
        with pytest.raises(ValueError, match=r"f=.* must be True or False"):
            check_flag("f", value)


def test_choices():
    assert check_choice("kind", "se", ("se", "cbam")) == "se"
    with pytest.raises(ValueError, match=r"kind='cban' is unknown; choose from 'se', 'cbam'\. Did you mean 'cbam'\?"):
        check_choice("kind", "cban", ("se", "cbam"))
    with pytest.raises(ValueError, match="kind=3 is unknown"):
        check_choice("kind", 3, ("se", "cbam"))


def test_keys():
    check_keys("options", {"a": 1}, ("a", "b"), "Thing")
    with pytest.raises(ValueError, match=r"options has the key 'hiden_size', which LSTM does not take\. Did you mean"):
        check_keys("options", {"hiden_size": 1}, ("hidden_size",), "LSTM")


def test_several_integers_at_once():
    checked = check_integers(a=1, b=np.int64(3))
    assert checked == [1, 3] and all(type(value) is int for value in checked)
    with pytest.raises(ValueError, match="b=True must be an integer of at least 1"):
        check_integers(a=1, b=True)
