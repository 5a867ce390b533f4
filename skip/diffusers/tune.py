"""The skip coefficient that suits a diffusers pipeline best, by prompts and a metric of whoever asks."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from skip.diffusers.apply import apply
from skip.evidence.estimate import Estimate
from skip.scale import SkipScale
from skip.search.search import Round, gain, search

Prompt = str | Mapping[str, Any]
# Images and the prompts they were made of -> a number for each image.
Metric = Callable[[list[Any], list[Prompt]], Sequence[float]]


@dataclass(frozen=True)
class TunedPipeline:
    """What a search found.

    Attributes:
        scale: the best coefficients; to be given to `skip.apply`.
        rounds: what each round saw, the coefficients of its points and the metric there.
        images: how many were made.
    """

    scale: SkipScale
    rounds: list[Round]
    images: int

    @property
    def rho(self) -> float:
        """The best coefficient of the deepest layer."""
        return self.rounds[-1].best.rho

    @property
    def error(self) -> float | None:
        """Its standard error, of the noise of the images."""
        return self.rounds[-1].best.error

    @property
    def gain(self) -> Estimate | None:
        """By how much the metric is better there than at rho 1, paired; None if 1 is no point of the grid."""
        found = gain(self.rounds)
        return None if found is None else found[1]


def tune_pipeline(
    pipe: Any,
    prompts: str | Sequence[Prompt],
    metric: Metric,
    low: float = 0.6,
    high: float = 1.0,
    points: int = 5,
    images: int = 8,
    budget: int = 120,
    precision: float | None = None,
    maximise: bool = True,
    scale: SkipScale | None = None,
    **call: Any,
) -> TunedPipeline:
    """Search rho of the deepest layer of a pipeline's model by `skip.search.search.search`: `tables.py tune`'s search.

    Image i is made of prompt i modulo their number, with a generator of seed i, alone. So every rho has the same
    images, only tuned otherwise, and differences between rhos are paired.

    Args:
        pipe: a pipeline whose `unet` or `transformer` `skip.apply` knows, or an EDMPipeline. It is left as it was.
        prompts: a text, or several; or the arguments of a call, as {"prompt_embeds": ...}; of a pipeline without any,
            [{}].
        metric: gets images as the pipeline gives them, and their prompts, and returns a number for each image.
        low, high, points: of the grid of rhos.
        images: of each point in the first round.
        budget: images in all.
        precision: stop when the error of rho is no larger.
        maximise: more is better.
        scale: how the layers lie between rho and `top`, in which window and order in time; its `bottom` is searched.
        call: further arguments of every call, as num_inference_steps=5.
    Returns:
        The best coefficients, and how well they are known.
    Raises:
        ValueError: if there are no prompts, the range, the budget or the model does not fit, `scale` lists its layers,
            or the metric does not return a finite number for each image.
    """
    if isinstance(prompts, str):
        prompts = [prompts]
    if not prompts:
        raise ValueError(
            "there are no prompts; give one or more, or [{}] for a pipeline without any"
        )
    scale = SkipScale() if scale is None else scale
    if scale.layers is not None:
        raise ValueError(
            "the scale lists its layers, which leaves nothing to search; give bottom and top"
        )
    made = _Images(pipe, prompts, metric, scale, call)
    rounds = search(made.measure, low, high, points, images, budget, precision, maximise)
    best = replace(scale, bottom=round(rounds[-1].best.rho, 4))
    return TunedPipeline(best, rounds, made.count)


class _Images:
    """The metric of images at rhos; of one rho every image is made once."""

    def __init__(
        self,
        pipe: Any,
        prompts: Sequence[Prompt],
        metric: Metric,
        scale: SkipScale,
        call: dict[str, Any],
    ) -> None:
        self._pipe, self._prompts, self._metric = pipe, prompts, metric
        self._scale, self._call = scale, call
        self._values: dict[float, list[float]] = {}

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(len(values) for values in self._values.values())

    def measure(self, rhos: Sequence[float], images: int) -> list[Estimate]:
        """See `skip.search.search.Measure`."""
        return [Estimate.of_mean(np.array(self._of(rho, images))) for rho in rhos]

    def _of(self, rho: float, images: int) -> list[float]:
        values = self._values.setdefault(rho, [])
        seeds = range(len(values), images)
        asked = [self._prompts[seed % len(self._prompts)] for seed in seeds]
        made = self._made(replace(self._scale, bottom=rho), list(seeds), asked)
        found = [float(value) for value in self._metric(made, asked)] if made else []
        if len(found) != len(made):
            raise ValueError(
                f"the metric returned {len(found)} numbers for {len(made)} images; it must be one for each"
            )
        for seed, value in zip(seeds, found, strict=True):
            if not math.isfinite(value):
                raise ValueError(
                    f"the metric of image {seed} at rho {rho:g} is {value}; it must be a finite number"
                )
        values += found
        return values[:images]

    def _made(self, scale: SkipScale, seeds: list[int], prompts: list[Prompt]) -> list[Any]:
        model: Any = getattr(self._pipe, "unet", None) or getattr(self._pipe, "transformer", None)
        if model is None:
            name = type(self._pipe).__name__
            raise ValueError(
                f"a {name} has neither a unet nor a transformer whose skips could be tuned"
            )
        if hasattr(model, "num_skips"):  # a network of ours, in an EDMPipeline
            return [self._one(*one, rho=scale) for one in zip(seeds, prompts, strict=True)]
        with apply(model, scale, getattr(self._pipe, "scheduler", None)):
            return [self._one(*one) for one in zip(seeds, prompts, strict=True)]

    def _one(self, seed: int, prompt: Prompt, **more: Any) -> Any:
        words = {"prompt": prompt} if isinstance(prompt, str) else dict(prompt)
        random = torch.Generator().manual_seed(seed)
        output = self._pipe(**words, **self._call, **more, generator=random)
        return output[0][0]  # images, frames or audios come first
