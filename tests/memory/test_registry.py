"""Names, options and their errors."""

import pytest

from sb3_attnmem.memory import MEMORIES, BaseMemory, check_memory_kwargs, get_memory_class
from tests.toys import SumMemory


def test_names_and_classes_are_both_accepted() -> None:
    assert get_memory_class("lstm") is MEMORIES["lstm"]
    assert get_memory_class(SumMemory) is SumMemory


def test_unknown_name_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"Unknown memory_class 'ltsm'.*Did you mean 'lstm'"):
        get_memory_class("ltsm")


@pytest.mark.parametrize("wrong", [int, 3, SumMemory(2)])
def test_what_is_no_memory_class_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="pass a subclass of BaseMemory"):
        get_memory_class(wrong)  # type: ignore[arg-type]


def test_misspelt_option_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"'hiden_size'.*Did you mean 'hidden_size'.*num_layers"):
        check_memory_kwargs(MEMORIES["lstm"], {"hiden_size": 3})
    with pytest.raises(ValueError, match="takes: nothing"):
        check_memory_kwargs(MEMORIES["none"], {"hidden_size": 3})


@pytest.mark.parametrize("options", [{"hidden_size": 0}, {"hidden_size": 2.5}, {"num_layers": -1}])
def test_sizes_are_positive_integers(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be an integer of at least 1"):
        MEMORIES["gru"](4, **options)  # type: ignore[call-arg]


def test_a_memory_without_the_interface_cannot_be_built() -> None:
    class Half(BaseMemory):
        pass

    with pytest.raises(TypeError, match="abstract"):
        Half(2, 2)  # type: ignore[abstract]
