"""How methods are written, and what of them is recorded."""

import pytest

from skip.methods.freeu import FreeU, FreeU2
from skip.methods.scalelong import ScaleLong
from skip.methods.table import METHODS, check_reach, parse_methods, record_of_methods


@pytest.mark.parametrize(
    "text, methods",
    [
        (None, ()),
        ("", ()),
        ("freeu:b1=1.2,s2=0.5", (FreeU(b1=1.2, s2=0.5),)),
        ("freeu2:b1=1.2", (FreeU2(b1=1.2),)),
        ("scalelong:kappa=.7+freeu:b2=1.1", (ScaleLong(0.7), FreeU(b2=1.1))),
    ],
)
def test_methods_are_read(text: str | None, methods: tuple[object, ...]) -> None:
    assert parse_methods(text) == methods


@pytest.mark.parametrize(
    "text, message",
    [
        ("freeu3:b1=1", "unknown method 'freeu3' in .*choose from freeu, freeu2, scalelong"),
        ("freeu", "freeu does nothing without a parameter; give freeu:b1=NUMBER"),
        ("freeu:", "freeu does nothing without a parameter"),
        ("freeu:b3=1", "'b3=1' is no parameter of freeu; write b1=NUMBER,b2=NUMBER,s1=NUMBER,s2=NUMBER"),
        ("freeu:version=2", "'version=2' is no parameter of freeu"),
        ("freeu:b1", "'b1' is no parameter of freeu"),
        ("freeu:b1=1,b1=2", "b1 stands twice"),
        ("freeu:b1=x", "freeu:b1='x' is not a number"),
        ("freeu:b1=nan", "freeu:b1=nan is no useful factor"),
        ("scalelong:kappa=1e9", "scalelong:kappa=1e9 is no useful factor"),
        ("scalelong:kappa=1+scalelong:kappa=2", "scalelong stands twice"),
        ("freeu:b1=1+freeu2:b1=2", "freeu and freeu2 are two versions of one method"),
        ("+", "unknown method ''"),
    ],
)  # fmt: skip
def test_what_is_no_method_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        parse_methods(text)
    assert "\n" not in str(refused.value)


def test_equal_methods_have_equal_records() -> None:
    one = record_of_methods(parse_methods("freeu:b1=1.20,s1=1"))
    assert one == record_of_methods(parse_methods("freeu:b1=1.2"))
    assert one == {"freeu": {"b1": 1.2, "b2": 1.0, "s1": 1.0, "s2": 1.0}}
    assert record_of_methods(parse_methods("freeu:b1=1+scalelong:kappa=1")) == {}


@pytest.mark.parametrize(
    "text, levels, message",
    [
        (
            "freeu:b2=1.3",
            [0, 0, 0],
            "freeu:b2=1.3 touches no long skip of n, which has 3, of level 0 ",
        ),
        ("freeu2:b1=1.1,s2=0.5", [0, 0], r"freeu2:s2=0.5 .* lowest resolution\); leave s2 out"),
        ("freeu:b1=2+scalelong:kappa=0.9", [0], "scalelong:kappa=0.9 touches no long skip of n"),
    ],
)
def test_a_parameter_that_touches_nothing_is_refused(
    text: str, levels: list[int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        check_reach(parse_methods(text), levels, "n")
    check_reach(parse_methods(text), [0, 0, 1], "n")
    check_reach(parse_methods("freeu:b1=1.2,s1=0.9,b2=1,s2=1"), levels, "n")  # 1 is as if unsaid


def test_the_table_names_every_method_once() -> None:
    assert len(set(METHODS.values())) == len(METHODS)
