"""Do stored tensors fit a network? One line that says which do not."""

from collections.abc import Mapping

from torch import Tensor

NAMES_SHOWN = 3


def check_names(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], optional: str | None = None) -> None:
    """What a strict load_state_dict checks, told in one line.

    Args:
        expected: the network's state_dict.
        found: the stored tensors.
        optional: names that end so may be missing.
    Raises:
        ValueError: if a name is missing or unexpected, or a shape is another; the first of them are named.
    """
    lists = {
        "missing": [n for n in expected if n not in found and not (optional and n.endswith(optional))],
        "unexpected": [n for n in found if n not in expected],
        "of the wrong shape": [
            f"{name} {list(found[name].shape)} for {list(value.shape)}"
            for name, value in expected.items()
            if name in found and found[name].shape != value.shape
        ],
    }
    problems = [
        f"{len(names)} {problem} ({', '.join(names[:NAMES_SHOWN])}{', ...' if len(names) > NAMES_SHOWN else ''})"
        for problem, names in lists.items()
        if names
    ]
    if problems:
        raise ValueError(f"the tensors do not fit the network: {'; '.join(problems)}")
