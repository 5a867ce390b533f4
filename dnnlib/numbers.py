"""Numbers that arithmetic in float32 can use; others would turn into 0, infinity or NaN on the way."""

LEAST, MOST = 1e-18, 1e18  # between them the square is a number of float32 too
LARGEST_SEED = 2**32 - 1  # generators take seeds modulo 2^32


def check_positive(name: str, value: float) -> None:
    """Refuse what is not positive, or so small or large that float32 cannot compute with it.

    Raises:
        ValueError: naming it; NaN and infinity are refused too.
    """
    if not value > 0:
        raise ValueError(f"{name} is {value:g}; it must be positive")
    if not LEAST <= value <= MOST:
        raise ValueError(f"{name} is {value:g}; float32 can compute with {LEAST:g} to {MOST:g}")
