"""From images to metrics: features once, then whatever is asked of them."""

import contextlib
import hashlib
import json
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dnnlib.util import cache_folder
from metrics.detector import Detector
from metrics.feature_store import Batches, FeatureStore, extract
from metrics.images import Images
from metrics.measure import Evidence, measure
from metrics.statistics import Statistics
from torch_utils import distributed


@dataclass(frozen=True)
class Evaluation:
    """A detector at work; under torchrun every rank calls the same methods in the same order.

    Args:
        detector: the feature network, on `device`.
        device: where images go.
        batch: images at a time.
        folder: where the features of the generated images stay; None keeps them in the cache until they are measured.
    """

    detector: Detector
    device: torch.device
    batch: int = 64
    folder: str | os.PathLike[str] | None = None

    @contextlib.contextmanager
    def features(self, settings: dict[str, Any], batches: Batches, ids: Sequence[int]) -> Iterator[FeatureStore]:
        """A store with the features of `ids`, going on from what a killed run left.

        Args:
            settings: what determines the images, as JSON.
            batches: yields the images of the ids it is given.
            ids: all the images that are wanted.
        Raises:
            ValueError: if `folder` holds features of other images.
        """
        settings = settings | {"detector": self.detector.name, "detector_sha256": self.detector.sha256}
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
        store = FeatureStore(self.folder or cache_folder() / "features" / digest, settings)
        extract(store, self.detector, ids, batches, self.device)
        yield store
        distributed.barrier()
        if self.folder is None and distributed.rank() == 0:
            store.remove()

    @contextlib.contextmanager
    def features_of(self, images: Images) -> Iterator[FeatureStore]:
        """A store with the features of stored images; ids are their positions."""

        def batches(ids: list[int]) -> Iterator[tuple[list[int], Tensor]]:
            for start in range(0, len(ids), self.batch):
                part = ids[start : start + self.batch]
                yield part, images.batch(part)

        with self.features({"images": images.fingerprint}, batches, range(len(images))) as store:
            yield store

    def statistics(self, store: FeatureStore, ids: Sequence[int]) -> Statistics:
        """Mean and covariance over the ids."""
        gathered = store.statistics(ids, self.detector.feature_dim, self.device)
        return gathered.result(self.detector.name, self.detector.sha256)

    def measure(
        self,
        names: list[str],
        store: FeatureStore,
        ids: Sequence[int],
        reference: Statistics | None,
        real: Images | None,
    ) -> dict[str, Any]:
        """The metrics `names` of the generated images `ids`: {"metrics": {...}}, and warnings if there were any.

        Args:
            names: keys of `metrics.measure.METRICS`.
            store: holds their features.
            ids: of the generated images.
            reference: statistics of the real images; None takes them from `real`.
            real: the real images, where a metric needs their features.
        Returns:
            The values on rank 0, an empty dict on the others.
        """
        statistics = self.statistics(store, ids)
        real_features = None
        if real is not None:
            with Evaluation(self.detector, self.device, self.batch).features_of(real) as real_store:
                reference = reference or self.statistics(real_store, range(len(real)))
                real_features, _ = real_store.load(range(len(real)))
        if distributed.rank() != 0:
            return {}
        features, logits = store.load(ids)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            evidence = Evidence(statistics, reference, features, logits, real_features)
            values: dict[str, Any] = {"metrics": measure(names, evidence, self.detector.name)}
        said = sorted({str(warning.message) for warning in caught})
        return values | ({"warnings": said} if said else {})
