"""Lists of seeds as text."""

import random

import pytest

from dnnlib.seeds import Seeds, format_seeds, parse_seeds, shared, united, without


@pytest.mark.parametrize(
    "text, seeds",
    [
        ("1,2,5-10", [1, 2, 5, 6, 7, 8, 9, 10]),
        ("7", [7]),
        ("3-3", [3]),
        ("9,1-2,2,9", [9, 1, 2]),
        (" 1 , 4 - 5 ", [1, 4, 5]),
        ("4294967295", [2**32 - 1]),
    ],
)
def test_lists_are_read_in_order_and_each_seed_once(text: str, seeds: list[int]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize(
    "text", ["", ",", "1,", "a", "-3", "1-", "1--2", "1-2-3", "1.5", "0x10", "²"]
)
def test_what_is_no_list_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a list such as 0-63"):
        parse_seeds(text)


def test_empty_and_immense_ranges_are_refused() -> None:
    with pytest.raises(ValueError, match="'5-1' are none: 5 is above 1"):
        parse_seeds("0,5-1")
    with pytest.raises(ValueError, match="more than 100,000,000"):
        parse_seeds("0-100000000")
    with pytest.raises(ValueError, match="100,000,001 seeds are more than 100,000,000"):
        parse_seeds("0-99999999,200000000")
    with pytest.raises(ValueError, match="seeds '0-100000000' are more than 100,000,000"):
        parse_seeds("0-100000000")
    assert parse_seeds("4294967295") == [2**32 - 1]
    # A generator would take them modulo 2^32
    for beyond in ("4294967296", "4294967290-4294967300", "9" * 5000):
        with pytest.raises(ValueError, match="go beyond 4,294,967,295, after which images repeat"):
            parse_seeds(beyond)


@pytest.mark.parametrize("text", ["0", "0-1", "0-49999", "1,3,5-7,9"])
def test_the_shortest_text_is_written(text: str) -> None:
    assert format_seeds(parse_seeds(text)) == text
    assert format_seeds([*parse_seeds(text)][::-1] * 2) == text


def random_list(draw: random.Random) -> str:
    parts = []
    for _ in range(draw.randint(1, 5)):
        low = draw.randint(0, 20)
        parts.append(draw.choice([f"{low}", f"{low}-{low + draw.randint(0, 8)}"]))
    return ",".join(parts)


def random_slice(draw: random.Random) -> slice:
    ends = [draw.choice([None, draw.randint(-30, 30)]) for _ in range(2)]
    return slice(*ends, draw.choice([None, 1, 2, 5, -1, -3]))


def listed(text: str) -> list[int]:
    """What the text says, the plain way."""
    found: dict[int, None] = {}
    for part in text.split(","):
        low, _, high = part.partition("-")
        found |= dict.fromkeys(range(int(low), int(high or low) + 1))
    return list(found)


@pytest.mark.parametrize("seed", range(50))
def test_seeds_are_what_the_list_would_be(seed: int) -> None:
    draw = random.Random(seed)
    text = random_list(draw)
    seeds, plain = parse_seeds(text), listed(text)
    for part in (slice(None), random_slice(draw), random_slice(draw)):
        seeds, plain = seeds[part], plain[part]
        assert list(seeds) == plain and len(seeds) == len(plain)
        assert [seeds[i] for i in range(-len(plain), len(plain))] == plain * 2
        assert [i in seeds for i in range(30)] == [i in plain for i in range(30)]
        others = listed(random_list(draw))
        assert list(united(seeds, others)) == sorted({*plain, *others})
        assert list(without(seeds, others)) == sorted({*plain} - {*others})
        assert list(shared(seeds, others)) == sorted({*plain} & {*others})
        assert not plain or list(parse_seeds(format_seeds(seeds))) == sorted(plain)


def test_a_long_range_takes_no_room() -> None:
    seeds = parse_seeds("0-49999999,50000000-99999999")
    assert seeds.ranges == [range(100_000_000)]
    assert seeds[3::8].ranges == [range(3, 100_000_000, 8)] and seeds[3::8][-1] == 99_999_995
    assert 99_999_999 in seeds and 100_000_000 not in seeds and "1" not in seeds
    assert format_seeds(without(seeds, [5])) == "0-4,6-99999999"


def test_equality_is_of_the_numbers_in_order() -> None:
    assert Seeds([range(3), range(5, 6)]) == [0, 1, 2, 5] == parse_seeds("0-2,5")
    assert parse_seeds("0,1") != parse_seeds("1,0") and parse_seeds("0") != "0"
