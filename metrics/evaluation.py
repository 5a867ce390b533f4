"""From images to metrics: features once, then whatever is asked of them."""

import contextlib
import dataclasses
import hashlib
import json
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import torch
from torch import Tensor

from dnnlib.claims import locked
from dnnlib.seeds import format_seeds
from dnnlib.util import scratch_folder
from metrics.detector import Detector, SpatialDetector
from metrics.feature_store import SPATIAL, Batches, FeatureStore, extract
from metrics.gaussian import Gaussian
from metrics.images import Images
from metrics.measure import Measured, measure, needed
from metrics.metric import Evidence
from metrics.names import INCEPTION
from metrics.statistics import Statistics
from metrics.stored_features import StoredFeatures
from torch_utils import distributed
from torch_utils.precision import computed_in


@dataclass(frozen=True, eq=False)
class Target:
    """What generated images are compared with.

    Attributes:
        reference: mean and covariance of the real images, or None.
        features: of the real images, on rank 0; None where no metric asks for them.
        spatial: mean and covariance of the real images' spatial features; None where no metric asks for them.
    """

    reference: Gaussian | None = None
    features: Tensor | None = None
    spatial: Gaussian | None = None


@dataclass(frozen=True)
class Evaluation:
    """A detector at work; under torchrun every rank calls the same methods in the same order.

    Args:
        detector: the feature network, on `device`.
        device: where images go.
        batch: images at a time.
        folder: where the features of the generated images stay; None keeps them in the cache until they are measured.
        spatial: whether spatial features are made beside the others.
    Raises:
        ValueError: if the detector has none.
    """

    detector: Detector
    device: torch.device
    batch: int = 64
    folder: str | os.PathLike[str] | None = None
    spatial: bool = False

    def __post_init__(self) -> None:
        if self.spatial and not isinstance(self.detector, SpatialDetector):
            raise ValueError(
                f"sfid needs Inception-v3's spatial features, and {self.detector.name} has none; drop it, or change "
                "the detector"
            )

    @contextlib.contextmanager
    def features(
        self, settings: dict[str, Any], batches: Batches, ids: Sequence[int], runs: int = 1
    ) -> Iterator[FeatureStore]:
        """A store with the features of `ids`, going on from what a killed run left.

        Args:
            settings: what determines the images, as JSON.
            batches: yields the images of the ids it is given.
            ids: all the images that are wanted.
            runs: as many may be at the same images in the cache, each with features of its own.
        Raises:
            ValueError: if `folder` holds features of other images.
            RuntimeError: if that many other runs are at the same images in the cache.
        """
        settings = settings | {
            "detector": self.detector.name,
            "detector_sha256": self.detector.sha256,
        }
        if computed_in(self.device)["tf32"]:
            settings["tf32"] = True
        if self.spatial:
            settings["spatial"] = True
        if self.folder is not None:
            store = FeatureStore(self.folder, settings)
            extract(store, self.detector, ids, batches, self.device)
            yield store
            return
        # Other ids have another folder: it is removed at the end, which must not take another run's features away.
        digest = hashlib.sha256(
            json.dumps([settings, format_seeds(ids)], sort_keys=True).encode()
        ).hexdigest()[:16]
        with _alone(scratch_folder() / "features" / digest, runs) as folder:
            store = FeatureStore(folder, settings)
            try:
                extract(store, self.detector, ids, batches, self.device)
                yield store
                distributed.barrier()
            except BaseException:
                if distributed.rank() == 0 and not store.chunks():
                    store.remove()
                raise
            if distributed.rank() == 0:
                store.remove()

    @contextlib.contextmanager
    def features_of(self, images: Images, role: str = "generated") -> Iterator[FeatureStore]:
        """A store with the features of stored images; ids are their positions."""

        def batches(ids: Sequence[int]) -> Iterator[tuple[list[int], Tensor]]:
            for start in range(0, len(ids), self.batch):
                part = list(ids[start : start + self.batch])
                yield part, images.batch(part)

        settings = {"images": images.fingerprint, "role": role}
        # Several runs compare with the same real images, and to wait for hours is worse than to read them again.
        with self.features(settings, batches, range(len(images)), RUNS) as store:
            yield store

    def statistics(self, store: FeatureStore, ids: Sequence[int]) -> Statistics:
        """Mean and covariance over the ids; with those of the spatial features, where they are made."""
        found = self._statistics(store, ids)
        if not self.spatial:
            return found
        return dataclasses.replace(found, spatial=self._spatial_statistics(store, ids))

    def _statistics(self, store: FeatureStore, ids: Sequence[int]) -> Statistics:
        """Mean and covariance of the features alone."""
        gathered = store.statistics(ids, self.detector.feature_dim, self.device)
        return gathered.result(self.detector.name, self.detector.sha256)

    def _spatial_statistics(self, store: FeatureStore, ids: Sequence[int]) -> Statistics:
        """Mean and covariance of the spatial features."""
        assert isinstance(self.detector, SpatialDetector)
        return store.statistics(ids, self.detector.spatial_dim, self.device, SPATIAL).result()

    @contextlib.contextmanager
    def compared_with(
        self,
        names: list[str],
        reference: Statistics | None,
        real: Images | StoredFeatures | None,
    ) -> Iterator[Target]:
        """What to compare with, checked and computed before the generated images, so that errors come early.

        Args:
            names: keys of `metrics.measure.METRICS`.
            reference: statistics of the real images; None takes them from `real`.
            real: the real images, where a metric needs their features; or the features themselves.
        Raises:
            ValueError: if the reference was made with another detector or is none, or a metric needs what this lacks.
        """
        if "logits" in needed(names) and self.detector.num_logits == 0:
            raise ValueError(
                f"the Inception Score needs classes, and {self.detector.name} has none; drop it, or change the detector"
            )
        gaussian = None
        if reference is not None:
            d = self.detector.feature_dim
            own = np.broadcast_to(np.float64(0), (d, d))
            try:
                Statistics(
                    own[0], own, None, self.detector.name, self.detector.sha256
                ).require_comparable(reference)
            except ValueError as error:
                raise ValueError(f"the reference does not fit the detector: {error}") from error
            gaussian = Gaussian(reference, "the reference's covariance", self.device)
            _ = gaussian.root  # found now, so that a matrix which is no covariance is refused before there are images

        spatial = self._spatial_reference(names, reference, real)
        if real is None:
            yield Target(gaussian, spatial=spatial)
            return
        if isinstance(real, StoredFeatures):
            yield dataclasses.replace(self._target(gaussian, real), spatial=spatial)
            return
        # These stay until all is measured, for a killed run to go on; and they have no place in the others' folder.
        with dataclasses.replace(self, folder=None).features_of(real, "real") as store:
            ids = range(len(real))
            if gaussian is None:
                gaussian = Gaussian(
                    self._statistics(store, ids), "the real images' covariance", self.device
                )
            if self.spatial and spatial is None:
                name = "the real images' spatial covariance"
                spatial = Gaussian(self._spatial_statistics(store, ids), name, self.device)
            features = self._at_hand(store.load(ids)[0]) if distributed.rank() == 0 else None
            yield Target(gaussian, features, spatial)

    def _spatial_reference(
        self,
        names: list[str],
        reference: Statistics | None,
        real: Images | StoredFeatures | None,
    ) -> Gaussian | None:
        """The reference's statistics of spatial features; None where no metric needs them, or `real` has them."""
        if "spatial" not in needed(names):
            return None
        if reference is not None and reference.spatial is not None:
            found = Gaussian(reference.spatial, "the reference's spatial covariance", self.device)
            _ = found.root
            return found
        if real is None or isinstance(real, StoredFeatures):
            raise ValueError(
                "sfid needs mu_s and sigma_s of the real images, which the reference lacks: give the images "
                "themselves too, or a reference with them, as ADM's are"
            )
        return None

    def _target(self, reference: Gaussian | None, real: StoredFeatures) -> Target:
        """What is known of real images whose features are kept."""
        real.require_dim(self.detector.feature_dim, self.detector.name)
        if reference is None:
            name = "the real images' covariance"
            reference = Gaussian(real.statistics(), name, self.device)
        features = self._at_hand(real.features) if distributed.rank() == 0 else None
        return Target(reference, features)

    def measure(
        self,
        names: list[str],
        store: FeatureStore,
        ids: Sequence[int],
        reference: Statistics | None,
        real: Images | StoredFeatures | None,
    ) -> Measured:
        """`compared_with` and `compare` in one, for a single set of images."""
        with self.compared_with(names, reference, real) as target:
            return self.compare(names, store, ids, target)

    def compare(
        self, names: list[str], store: FeatureStore, ids: Sequence[int], target: Target
    ) -> Measured:
        """The metrics `names` of the generated images `ids`.

        Args:
            names: keys of `metrics.measure.METRICS`.
            store: holds their features.
            ids: of the generated images.
            target: what to compare them with.
        Returns:
            What came of them, on rank 0; nothing on the others.
        Raises:
            ValueError: if no metric has a value.
        """
        needs = needed(names)
        generated, spatial = None, None
        if "statistics" in needs:  # a sum over all ranks
            generated = Gaussian(
                self._statistics(store, ids), "the generated images' covariance", self.device
            )
        if "spatial" in needs:  # the same
            name = "the generated images' spatial covariance"
            spatial = Gaussian(self._spatial_statistics(store, ids), name, self.device)
        if distributed.rank() != 0:
            return Measured()

        features, logits = store.load(ids)
        if "logits" in needs:
            # The Inception Score must not see how the images are stored.
            logits = logits[store.by_content(ids)]
        evidence = Evidence(
            generated,
            target.reference,
            self._at_hand(features),
            self._at_hand(logits),
            target.features,
            None if spatial is None else self._spatial_evidence(spatial, store, ids, target),
        )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = measure(names, evidence, self.detector.name)
        said = {str(warning.message) for warning in caught} | self._doubts(target.reference)
        return dataclasses.replace(found, warnings=sorted(said))

    def _spatial_evidence(
        self, generated: Gaussian, store: FeatureStore, ids: Sequence[int], target: Target
    ) -> Evidence:
        """What sFID is computed from."""
        return Evidence(generated, target.spatial, self._at_hand(store.spatial(ids)))

    def _at_hand(self, rows: np.ndarray | Tensor) -> Tensor:
        """Features or logits where metrics are computed: on this rank's device if it has float64."""
        return torch.as_tensor(rows).to("cpu" if self.device.type == "mps" else self.device)

    def _doubts(self, reference: Gaussian | None) -> set[str]:
        """What to tell of statistics that name no feature network: published ones are Inception's."""
        if (
            reference is None
            or reference.statistics.detector is not None
            or self.detector.name.startswith(INCEPTION)
        ):
            return set()
        return {
            f"the reference does not say which detector made it; a distance in {self.detector.name}'s features means "
            "something only if it was that one, and statistics published with EDM and ADM are Inception's"
        }


RUNS = 16  # that may be at the same stored images at a time
LOOK_SECONDS = 0.3  # as long as another run may take to look whether anyone holds a lock


@contextlib.contextmanager
def _alone(folder: Path, runs: int) -> Iterator[Path]:
    """Keep other runs out of a folder of the cache; the lock falls with the process, however it ends.

    Args:
        folder: of the first run.
        runs: as many may be at work, the others in folders beside it.
    Returns:
        The folder of this run, on all ranks.
    """
    folders = [folder, *(folder.with_name(f"{folder.name}-{n}") for n in range(2, runs + 1))]
    with contextlib.ExitStack() as held:
        mine = _first_free(folders, held) if distributed.rank() == 0 else folder
        chosen = distributed.as_rank_0_says([one == mine for one in folders])
        yield folders[chosen.index(True)]


def _first_free(folders: Sequence[Path], held: contextlib.ExitStack) -> Path:
    """The first folder that no other run holds, and of these one that a killed run left, for its features."""
    folders[0].parent.mkdir(parents=True, exist_ok=True)
    for folder in sorted(folders, key=lambda one: not one.exists()):
        try:
            held.enter_context(locked(Path(f"{folder}.lock"), LOOK_SECONDS))
        except filelock.Timeout:
            continue
        for left in folder.parent.glob("*.lock"):  # by killed runs
            with contextlib.suppress(filelock.Timeout), locked(left, 0):
                pass
        return folder
    raise RuntimeError(
        f"another run is at the same images, in {folders[0]}; wait for it, or keep features in another folder"
    )
