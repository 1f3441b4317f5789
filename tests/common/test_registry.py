import pytest

from sb3_attnmem.common.registry import check_options, find_class


class Base:
    def __init__(self, width: int, depth: int = 1) -> None: ...


class Taken(Base):
    pass


class Greedy(Base):
    def __init__(self, width: int, **rest: int) -> None: ...


KNOWN = {"base": Base, "greedy": Greedy}


def test_names_and_subclasses_are_found():
    assert find_class("kind", "greedy", KNOWN, Base) is Greedy
    assert find_class("kind", Taken, KNOWN, Base) is Taken
    assert find_class("kind", "base", KNOWN, base=None) is Base


@pytest.mark.parametrize(
    ("choice", "base", "message"),
    [
        ("Greddy", Base, r"Unknown kind 'Greddy'\. Did you mean 'greedy'\? Known names: base, greedy\."),
        ("qqq", Base, r"Unknown kind 'qqq'\. Known names: base, greedy\."),
        (dict, Base, r"kind is <class 'dict'>; pass a subclass of Base \(the class, not an instance\) or one of the"),
        (Base(1), Base, r"pass a subclass of Base \(the class, not an instance\)"),
        (["base"], Base, r"kind is \['base'\]; pass a subclass of Base"),
        (Taken, None, r"Unknown kind <class .*Taken'>\. Known names: base, greedy\."),
        (None, None, r"Unknown kind None\. Known names"),
    ],
)
def test_anything_else_is_refused(choice, base, message):
    with pytest.raises(ValueError, match=message):
        find_class("kind", choice, KNOWN, base)


def test_options_are_those_of_the_class():
    check_options("options", {"depth": 2}, Base, ["width"], "Base")
    check_options("options", {"anything": 2}, Greedy, ["width"], "Greedy")
    with pytest.raises(
        ValueError, match=r"options has the key 'dept', which Base does not take\. Did you mean 'depth'"
    ):
        check_options("options", {"dept": 2}, Base, ["width"], "Base")
    with pytest.raises(ValueError, match="'width', which Base does not take"):
        check_options("options", {"width": 2}, Base, ["width"], "Base")
