"""Inception Score: how sure a classifier is of each image, and how varied its answers are."""

import numpy as np
import torch

from metrics.features import ArrayLike, as_features
from metrics.metric import Evidence, Value
from metrics.names import SPLITS


def inception_score(
    logits: ArrayLike, splits: int = SPLITS, shuffle_seed: int | None = None
) -> tuple[float, float]:
    r"""Mean and standard deviation, over consecutive splits, of exp(E_x KL(p(y|x) || p(y))).

    p(y|x) is the softmax of an image's logits, p(y) their mean over the split; split i of N images holds the images
    from i N // splits to (i + 1) N // splits.

    Reference: Salimans et al., 2016, section 4, https://arxiv.org/abs/1606.03498

    Args:
        logits: [N, classes]; of Inception, the 1008 without bias.
        splits: 1 to N; published values have 10.
        shuffle_seed: shuffle the images before they are split, as torch-fidelity does with 2020. Needed where the
            images are sorted by class, since each split must show all of them.
    Returns:
        (mean, population standard deviation); the score lies between 1 and the number of classes.
    Raises:
        ValueError: if there are fewer images than splits, or a logit is not finite.
    """
    if splits < 1:
        raise ValueError(f"splits is {splits}; need at least 1")
    x = as_features(logits, "logits", at_least=splits)
    if shuffle_seed is not None:
        order = np.random.RandomState(shuffle_seed).permutation(len(x))
        x = x[torch.from_numpy(order).to(x.device)]
    log_p = x.log_softmax(1)
    scores = []
    for i in range(splits):
        part = log_p[i * len(x) // splits : (i + 1) * len(x) // splits]
        log_marginal = part.logsumexp(0) - np.log(len(part))
        divergence = (part.exp() * (part - log_marginal)).sum(1).mean()
        scores.append(float(divergence.exp()))
    return float(np.mean(scores)), float(np.std(scores))


def _is(e: Evidence) -> dict[str, Value]:
    if e.logits is None or e.logits.shape[1] == 0:
        raise ValueError("the Inception Score needs a detector with classes; this one has none")
    mean, std = inception_score(e.logits)
    return {"is": Value(mean, std / SPLITS**0.5, beside={"is_std": std})}
