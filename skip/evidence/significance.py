"""What chance allows: how far a difference must lie from 0 to be believed."""

from scipy.special import ndtri, stdtrit

from skip.evidence.estimate import Estimate

LEVEL = 0.05  # of a claim, two-sided


def threshold(tests: int, blocks: int = 0) -> float:
    r"""How many standard errors a difference must exceed, after a number of tests of which one is enough.

    The two-sided quantile of 0.05 / tests (Bonferroni): of Student's t with B - 1 degrees of freedom where the error is
    that of B blocks, else of the normal distribution.

    Args:
        tests: how many chances there are, 1 or more.
        blocks: B, or 0 where the error is not one of blocks.
    """
    tail = LEVEL / 2 / tests
    return -float(stdtrit(blocks - 1, tail) if blocks else ndtri(tail))


def lies(gap: Estimate, sign: int, tests: int = 1) -> bool:
    """Whether a difference lies below 0 (sign 1) or above (-1) by more than chance allows.

    Never if its error is unknown.

    Args:
        gap: with blocks where it is paired, see `skip.evidence.estimate.difference`.
        sign: the side.
        tests: as for `threshold`.
    """
    if gap.error is None:
        return False
    return sign * gap.value < -threshold(tests, len(gap.blocks)) * gap.error
