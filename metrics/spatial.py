"""sFID: the Frechet distance of Inception's spatial features, which see where things are."""

import dataclasses

from metrics.frechet import frechet
from metrics.metric import Evidence, Value


def _sfid(e: Evidence) -> dict[str, Value]:
    r"""The distance of `metrics.frechet.frechet` between 17 x 17 x 7 features in place of 2048 averages.

    Reference: Nash et al., 2021, https://arxiv.org/abs/2103.03841; as the ADM evaluator takes them, the first 7
        channels of mixed_6/conv: https://github.com/openai/guided-diffusion, evaluations/evaluator.py
    """
    one = e.spatial
    if one is None or one.generated is None or one.reference is None:
        raise ValueError("sfid needs the spatial features of the images, and their statistics")
    found = frechet(one.generated, one.reference, one.features)
    beside = {} if found.error is None else {"sfid_standard_error": found.error}
    return {"sfid": dataclasses.replace(found, beside=beside)}
