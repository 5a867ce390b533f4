"""A diffusers pipeline around our networks: the images of generate.py, called as diffusers calls its own."""

import os
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline, ImagePipelineOutput
from torch import Tensor

from dnnlib.keywords import check_keywords
from sampling.generate import ImageMaker
from sampling.guidance import Guidance
from sampling.noise import SeedNoise, draws
from sampling.settings import SamplerSettings
from skip.methods.table import parse_methods
from skip.options import network_defaults, with_defaults
from skip.scale import SkipScale
from skip.source import DTYPES, ImageSource, check_levels, ready_network, warn_without_class
from skip.tuned import SkipTuned
from training.precond import Precond
from training.storage import save_network

_CPU = torch.device("cpu")
FILE = "network.safetensors"  # of a folder that `save_pretrained` made
OUTPUTS = ("pil", "np", "pt")
Rho = float | Sequence[float] | Tensor | SkipScale

Generators = torch.Generator | list[torch.Generator]


class EDMPipeline(DiffusionPipeline):
    """Images of a network of this package, plain or Skip-Tuned.

    With a generator of an image's seed, and the same settings, an image is bitwise generate.py's.

    Args:
        unet: the network, ready to sample as `skip.source.ready_network` makes it.
        guide: the weaker network of guidance, always plain; None is `unet` itself without the class.
        defaults: sampler settings for those that a call leaves open, and "guidance"; as an entry of
            configs/networks.toml has them.
    """

    unet: Precond
    guide: Precond | None
    _optional_components: list[str] = ["guide"]  # noqa: RUF012  # as the base class has it

    def __init__(
        self,
        unet: Precond,
        guide: Precond | None = None,
        defaults: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(unet=unet, guide=guide)
        self._defaults = dict(defaults or {})
        self._dtype = unet.dtype

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike[str],
        autoencoder: str | os.PathLike[str] | None = None,
        torch_dtype: torch.dtype | None = None,
    ) -> "EDMPipeline":
        """A pipeline of a named or stored network, on the CPU.

        Args:
            name: a name in configs/networks.toml, a path, a URL, or a folder that `save_pretrained` made.
            autoencoder: path or URL of what decodes a latent network; None as its file or entry says.
            torch_dtype: of the network; None: float32, and on a GPU what its entry or else its file says.
        Raises:
            FileNotFoundError, ValueError, RuntimeError: as `training.storage.load_network`.
        """
        source = str(name)
        if (Path(source) / FILE).is_file():
            source = str(Path(source) / FILE)
        second = None if autoencoder is None else str(autoencoder)
        net = ready_network(source, _CPU, second, None)
        defaults, guided = network_defaults(source)
        weaker = guided.pop("guide", None)
        guide = None if weaker is None else ready_network(weaker, _CPU, None, None)
        for part in (net, guide):
            if part is not None:
                # What it computes in is settled where it is called: it may be moved until then.
                part.dtype = _of_networks(torch_dtype)
        return cls(net, guide, defaults | guided)

    def save_pretrained(self, save_directory: str | os.PathLike[str], **provenance: Any) -> None:
        """Store the network in a folder, for `from_pretrained`.

        Args:
            save_directory: made if need be.
            provenance: as of `training.storage.save_network`.
        Raises:
            OSError: if the file cannot be written.
        """
        Path(save_directory).mkdir(parents=True, exist_ok=True)
        save_network(self.unet, Path(save_directory) / FILE, **provenance)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.unet.parameters()).device

    def to(self, *args: Any, **kwargs: Any) -> "EDMPipeline":
        """Move the network to a device; a dtype is what it computes in, and leaves the rest float32."""
        for value in (*args, *kwargs.values()):
            if isinstance(value, torch.dtype):
                self._dtype = _of_networks(value)
                continue
            for part in self._parts:
                part.to(torch.device(value))
        return self

    @property
    def _parts(self) -> list[Precond]:
        return [self.unet] if self.guide is None else [self.unet, self.guide]

    @torch.inference_mode()
    def __call__(
        self,
        batch_size: int = 1,
        class_labels: int | Sequence[int] | Tensor | None = None,
        num_inference_steps: int | None = None,
        rho: Rho | None = None,
        generator: Generators | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        guidance_scale: float | None = None,
        skip_method: str | None = None,
        guide_rho: float | None = None,
        guidance_sigma: tuple[float, float] | None = None,
        **settings: Any,
    ) -> Any:
        """Make images.

        Args:
            batch_size: their number, made at once.
            class_labels: of all, or of each; None: each is drawn, as EDM does.
            num_inference_steps: solver steps; None: the network's own default, or 18.
            rho: a number is that of the deepest layer, and the layers approach 1; several are of each layer, deepest
                first; or a SkipScale. None, or 1, is the plain network.
            generator: one of each image, as torch.Generator().manual_seed(seed), or one of which they draw one after
                the other; None draws seeds.
            output_type: "pil"; "np", float32 [N, H, W, C] from 0 to 1; or "pt", [N, C, H, W] on the device.
            return_dict: an ImagePipelineOutput; else a tuple of the images.
            guidance_scale: of guidance by the guide, or by the network without its class; None: the network's own
                default, or none.
            skip_method: as --skip-method of generate.py.
            guide_rho: skip guidance: the guide is the network itself, with its class, at this rho.
            guidance_sigma: (low, high): guidance only where low < sigma <= high.
            settings: fields of `sampling.settings.SamplerSettings`, as sampler="unipc".
        Raises:
            ValueError: if a value is unknown, or does not fit the network.
            RuntimeError: if the network returns NaN or infinity.
        """
        if output_type not in OUTPUTS:
            raise ValueError(
                f"unknown output_type {output_type!r}; choose from {', '.join(OUTPUTS)}"
            )
        if type(batch_size) is not int or batch_size < 1:
            raise ValueError(f"batch_size is {batch_size!r}; it must be a whole number, 1 or more")
        if num_inference_steps is not None and "steps" in settings:
            raise ValueError("num_inference_steps and steps are one setting; give one of them")
        if num_inference_steps is not None:
            settings["steps"] = num_inference_steps
        _check_settings(settings)
        defaults = dict(self._defaults)
        own_scale = defaults.pop("guidance", 1.0)
        sampler = SamplerSettings(**with_defaults(settings, defaults))
        asked = {"guide_rho": guide_rho, "guidance_sigma": guidance_sigma}
        given = {name: value for name, value in asked.items() if value is not None}
        check_keywords(given, [ImageSource])
        if given and guidance_scale is None and own_scale == 1:
            (name, value), *_ = given.items()
            raise ValueError(f"{name} {value} does nothing without guidance: give guidance_scale")
        scale = own_scale if guidance_scale is None else guidance_scale
        guidance = self._guidance(scale, guide_rho, guidance_sigma)
        make = self._maker(sampler, _scale(rho), skip_method, guidance)
        classes = self._classes(class_labels, batch_size)
        random = SeedNoise.by(_one_per_image(generator, batch_size))
        images, _ = make(draws(random, make.shape, self.unet.label_dim, classes))

        found: Any = images.float() / 255
        if output_type != "pt":
            found = found.permute(0, 2, 3, 1).cpu().numpy()
        if output_type == "pil":
            found = self.numpy_to_pil(found)
        return ImagePipelineOutput(images=found) if return_dict else (found,)

    def _guidance(
        self, scale: float, guide_rho: float | None, interval: tuple[float, float] | None
    ) -> Guidance:
        if guide_rho is None:
            if scale != 1 and self.guide is None:
                warn_without_class("this network", self.unet)
            return Guidance(scale, self.guide, interval)
        if self.guide is not None:
            raise ValueError(
                f"the guide is either the pipeline's own or the network itself with rho {guide_rho:g}: leave guide_rho "
                "out"
            )
        return Guidance(scale, SkipTuned(self.unet, SkipScale(guide_rho)), interval)

    def _maker(
        self,
        sampler: SamplerSettings,
        scale: SkipScale,
        skip_method: str | None,
        guidance: Guidance,
    ) -> ImageMaker:
        for part in self._parts:
            part.dtype = self._dtype
            part.set_dtype(part.compute_dtype(self.device))
        check_levels(sampler, self.unet, scale.window, guidance.interval)
        tuned = SkipTuned(self.unet, scale, methods=parse_methods(skip_method))
        return ImageMaker(tuned, sampler, self.device, guidance)

    def _classes(
        self, labels: int | Sequence[int] | Tensor | None, batch_size: int
    ) -> list[int] | None:
        if labels is None:
            return None
        known = self.unet.label_dim
        if known == 0:
            raise ValueError(f"class_labels is {labels}, but the network is unconditional")

        given = labels.tolist() if isinstance(labels, Tensor) else labels
        classes = [given] if isinstance(given, int | str) else list(given)
        for c in classes:
            if type(c) is not int:
                raise ValueError(f"class {c!r} is asked for; a class is a whole number")

        if len(classes) == 1:
            classes *= batch_size
        if len(classes) != batch_size:
            raise ValueError(f"{len(classes)} class_labels for {batch_size} images")

        for c in classes:
            if not 0 <= c < known:
                raise ValueError(
                    f"class {c} is asked for; the network has classes 0 to {known - 1}"
                )
        return classes


def _of_networks(dtype: torch.dtype | None) -> torch.dtype | None:
    known = [getattr(torch, name) for name in DTYPES]
    if dtype is not None and dtype not in known:
        raise ValueError(f"unknown dtype {dtype!r}; choose from {', '.join(map(str, known))}")
    return dtype


def _check_settings(settings: dict[str, Any]) -> None:
    known = [field.name for field in fields(SamplerSettings)]
    for name in settings:
        if name not in known:
            raise ValueError(
                f"there is no setting {name}; of a sampler there are {', '.join(known)}"
            )
    check_keywords(settings, [SamplerSettings])


def _scale(rho: Rho | None) -> SkipScale:
    if rho is None:
        return SkipScale()
    if isinstance(rho, SkipScale):
        return rho
    if isinstance(rho, Tensor):
        rho = rho.tolist()
    rhos = [rho] if isinstance(rho, int | float | str) else list(rho)
    for one in rhos:
        if isinstance(one, bool) or not isinstance(one, int | float):
            raise ValueError(f"rho is {one!r}; give a number, one for each layer, or a SkipScale")
    if isinstance(rho, int | float):
        return SkipScale(float(rho))
    return SkipScale(layers=tuple(rhos))


def _one_per_image(generator: Generators | None, batch_size: int) -> list[torch.Generator]:
    if generator is None:
        seeds = torch.randint(2**31, (batch_size,)).tolist()
        return [torch.Generator().manual_seed(seed) for seed in seeds]
    given: list[Any] = [generator] * batch_size
    if isinstance(generator, list | tuple):
        given = list(generator)
    for one in given:
        if not hasattr(one, "initial_seed"):
            raise ValueError(f"a generator is {one!r}; give torch.Generator().manual_seed(seed)")
    if len(given) != batch_size:
        raise ValueError(f"{len(given)} generators for {batch_size} images; give one for each")
    return given
