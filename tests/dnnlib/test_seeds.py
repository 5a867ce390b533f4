"""Lists of seeds as text."""

import pytest

from dnnlib.seeds import format_seeds, parse_seeds


@pytest.mark.parametrize(
    "text, seeds",
    [
        ("1,2,5-10", [1, 2, 5, 6, 7, 8, 9, 10]),
        ("7", [7]),
        ("3-3", [3]),
        ("9,1-2,2,9", [9, 1, 2]),
        (" 1 , 4 - 5 ", [1, 4, 5]),
        ("4294967296", [2**32]),
    ],
)
def test_lists_are_read_in_order_and_each_seed_once(text: str, seeds: list[int]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", ",", "1,", "a", "-3", "1-", "1--2", "1-2-3", "1.5", "0x10", "²"])
def test_what_is_no_list_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a list such as 0-63"):
        parse_seeds(text)


def test_empty_and_immense_ranges_are_refused() -> None:
    with pytest.raises(ValueError, match="'5-1' are none: 5 is above 1"):
        parse_seeds("0,5-1")
    with pytest.raises(ValueError, match="more than 100,000,000"):
        parse_seeds("0-99999999999")


@pytest.mark.parametrize("text", ["0", "0-1", "0-49999", "1,3,5-7,9"])
def test_the_shortest_text_is_written(text: str) -> None:
    assert format_seeds(parse_seeds(text)) == text
    assert format_seeds([*parse_seeds(text)][::-1] * 2) == text
