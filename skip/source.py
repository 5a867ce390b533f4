"""Everything that determines a set of generated images, and the images themselves."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from sampling.generate import Batch, Labels, check_labels, draw_classes, generate
from sampling.noise import SeedNoise
from sampling.settings import SamplerSettings
from skip.scale import SkipScale
from skip.tuned import SkipTuned
from training.checkpoint import describe, load_network
from training.networks import SkipTarget

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class ImageSource:
    """A network, a sampler and skip coefficients; with a seed they determine an image.

    Args:
        network: a name in configs/networks.toml, a path or a URL.
        sampler: solver and noise levels.
        scale, skip_target: Skip-Tuning, see `skip.tuned.SkipTuned`.
        labels, class_idx, noise_device: see `sampling.generate.generate`.
        dtype: of the network, a name in DTYPES; None as the checkpoint says.
    """

    network: str = "demo"
    sampler: SamplerSettings = SamplerSettings()
    scale: SkipScale = SkipScale()
    skip_target: SkipTarget = "full"
    labels: Labels = "random"
    class_idx: int | None = None
    noise_device: str | None = None
    dtype: str | None = None

    def load(self, device: torch.device | str, compile: bool = False) -> "LoadedSource":
        """Load the network, and check that everything fits together.

        Args:
            device: where the network goes.
            compile: torch.compile the network.
        Raises:
            FileNotFoundError, ValueError, RuntimeError: as `training.checkpoint.load_network`, or if a setting does not
                fit the network.
        """
        net = load_network(self.network, device).channels_last()
        if self.dtype is not None:
            net.set_dtype(DTYPES[self.dtype])
        check_labels(net, self.labels, self.class_idx)
        record = {
            "network_sha256": describe(self.network)["sha256"],
            "sampler": self.sampler.resolved(net),
            "skip": {"rho": None} if self.scale.is_identity else self._skip_record(net.num_skips),
            "labels": None if net.label_dim == 0 else self.labels if self.class_idx is None else self.class_idx,
            "dtype": str(net.compute_dtype(torch.device(device))).removeprefix("torch."),
            "noise_device": torch.device(self.noise_device or "cpu").type,
        }
        tuned = SkipTuned(net, self.scale, self.skip_target)
        if compile:
            net.model.compile()
        return LoadedSource(self, tuned, torch.device(device), record)

    def _skip_record(self, num_skips: int) -> dict[str, Any]:
        scale = asdict(replace(self.scale, layers=tuple(self.scale.per_layer(num_skips).tolist()), bottom=1.0, top=1.0))
        return {"rho": scale.pop("layers"), "target": self.skip_target} | {
            name: scale[name] for name in ("time", "axis", "sigma_min", "sigma_max", "window")
        }


@dataclass(frozen=True)
class LoadedSource:
    """An ImageSource on a device.

    Attributes:
        source: what was loaded.
        net: the Skip-Tuned network.
        device: where it is.
        record: every setting that determines the images, resolved, as JSON.
    """

    source: ImageSource
    net: SkipTuned
    device: torch.device
    record: dict[str, Any]

    def batches(self, seeds: Sequence[int], batch_size: int) -> Iterator[Batch]:
        """Generate the images of `seeds`; see `sampling.generate.generate`."""
        s = self.source
        return generate(
            self.net, s.sampler, seeds, self.device, batch_size, s.labels, s.class_idx, s.noise_device
        )

    def classes(self, seeds: Sequence[int]) -> dict[int, int]:
        """The class of each seed's image, without making the image; empty for an unconditional network."""
        shape = (self.net.img_channels, self.net.img_resolution, self.net.img_resolution)
        found = {}
        for seed in seeds if self.net.label_dim else []:
            random = SeedNoise([seed], self.source.noise_device)
            random.randn([1, *shape])  # the noise is drawn before the class
            found[seed] = draw_classes(random, self.net.label_dim, [seed], self.source.labels, self.source.class_idx)[0]
        return found
