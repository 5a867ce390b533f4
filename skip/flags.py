"""Command-line flags that the programs share: where to compute, what to sample and how, and how to tune the skips."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import click

from dnnlib.completion import names
from dnnlib.flags import COUNT, POSITIVE, Flags, flag
from dnnlib.start import importing
from sampling.names import (
    GRIDS,
    SOLVERS,
    DEISVariant,
    Ending,
    Labels,
    Prediction,
    Rule,
    Scaling,
    Schedule,
    UniPCVariant,
)
from skip.methods.names import METHODS
from skip.names import BATCH, DTYPES, Axis, Spacing, Time
from training.names import SkipTarget, networks

if TYPE_CHECKING:
    import torch

    from dnnlib.sinks.mirror import Target

Variant = Literal[UniPCVariant, DEISVariant]
Discretisation = Literal["vp", "ve", "iddpm", "edm"]
NOT_NEGATIVE = click.FloatRange(min=0)
DEVICES = ("cpu", "cuda")
COMPILE = "torch.compile the network: slow start, then faster"

# Rows stand in lines of their own, to be read as a table.
# fmt: off


@dataclass(frozen=True, kw_only=True)
class DeviceFlags(Flags):
    """Where a program computes, a part of its group "Computation"."""

    name: str | None = flag("cpu, cuda, cuda:1  [default: cuda where there is one]", name="--device", metavar="DEVICE", shell_complete=names(lambda: DEVICES))
    tf32: bool       = flag("On CUDA: let float32 be TF32: several times faster, off by 1e-3", default=False)

    def init(self) -> "torch.device":
        """This rank's device, ready; errors: see `torch_utils.distributed.init`."""
        with importing():
            from torch_utils import distributed
        return distributed.init(self.name, self.tf32)


@dataclass(frozen=True, kw_only=True)
class SinkFlags(Flags):
    """Where curves and pictures go besides the files that hold them."""

    tensorboard: bool   = flag("Curves and pictures also for TensorBoard, in its folder tensorboard; needs the extra `log`", default=False)
    wandb: str | None   = flag("Also to this project of Weights & Biases; needs the extra `wandb`", metavar="PROJECT")
    trackio: str | None = flag("Also to this project of trackio; needs the extra `trackio`", metavar="PROJECT")

    def targets(self) -> "list[Target]":
        """The sinks that are wanted; errors: see `dnnlib.sinks.mirror.Target`."""
        with importing():
            from dnnlib.sinks.mirror import Target
        projects = {"wandb": self.wandb, "trackio": self.trackio}
        found = [Target("tensorboard")] if self.tensorboard else []
        return [*found, *(Target(name, project) for name, project in projects.items() if project is not None)]


@dataclass(frozen=True, kw_only=True)
class PlaceFlags(Flags):
    """Where and how images are sampled."""

    device: DeviceFlags
    compile: bool = flag(COMPILE, default=False)


@dataclass(frozen=True, kw_only=True)
class ComputeFlags(Flags, heading="Computation"):
    """How tables are computed; none of it changes them."""

    batch: int = flag("Images at a time on each rank", type=COUNT, default=BATCH, metavar="INT")
    place: PlaceFlags


@dataclass(frozen=True, kw_only=True)
class NetworkFlags(Flags, heading="Network"):
    """What is sampled: fields of `skip.source.ImageSource`. --class is EDM's."""

    network: str             = flag("Name (python -m training.checkpoint list: some have defaults of their own), path or URL", default="demo", metavar="NAME|PATH|URL", shell_complete=names(networks))
    autoencoder: str | None  = flag("Of a latent network: what decodes it  [default: that of the network's file or entry]", metavar="PATH|URL")
    dtype: str | None        = flag("What it computes in  [default: float32; on CUDA what the network's entry or file says]", type=click.Choice(DTYPES))
    class_idx: int | None    = flag("Class of every image", name="--class", type=click.IntRange(min=0), metavar="INT")
    labels: Labels | None    = flag("Without --class: draw classes from the seeds, or seed modulo classes  [default: random]")
    guidance: float | None   = flag("Scale w of guidance, D_guide + w (D - D_guide), 1 for none; twice the evaluations  [default: none]")
    guide: str | None        = flag("Weaker network for --guidance (autoguidance)  [default: the network itself, without its class]", metavar="NAME|PATH|URL", shell_complete=names(networks))
    guide_rho: float | None  = flag("Skip guidance: the guide is the network itself with this rho of the deepest layer, as --rho-bottom; 1 is the plain network", metavar="FLOAT")
    guidance_sigma: str | None = flag("Guidance only where LOW < sigma <= HIGH; elsewhere the network alone, at half the cost  [default: everywhere]", metavar="LOW,HIGH")
    noise_device: str | None = flag("Where noise is drawn; cuda gives EDM's own GPU draws  [default: cpu: the same images everywhere]", metavar="DEVICE", shell_complete=names(lambda: DEVICES))


# The groups of a sampler: fields of `sampling.settings.SamplerSettings`, but for --sigma-init and --disc. From --steps on
# they are EDM's flags, with EDM's names and meanings.


@dataclass(frozen=True, kw_only=True)
class SolverFlags(Flags, heading="Sampler"):
    """The solver and its settings."""

    sampler: str | None            = flag("Solver of the ODE, or (euler_a, dpmpp_sde, dpmpp_m_sde, sa_solver) of the SDE  [default: heun]", type=click.Choice([name for name in SOLVERS if name != "ablation"]))
    order: int | None              = flag("Of unipc and dpm_singlestep (1-3, default 3), dpmpp and dpmpp_m_sde (1-3, 2), sa_solver (1-4, 3), ipndm and ipndm_v (1-4, 4), deis (1-4, 3)", type=click.IntRange(1, 4), metavar="INT")
    corrector_order: int | None    = flag("Of sa_solver's corrector (1-4, default 4); 0 for none", type=click.IntRange(0, 4), metavar="INT")
    variant: Variant | None        = flag("Of unipc: bh1 (default), bh2; of deis: tab (default), rhoab, logrho")
    predict: Prediction | None     = flag("What unipc and dpm_singlestep interpolate  [default: x0]")
    exact: bool | None             = flag("unipc: solve for each coefficient, not the published 0.5; deis, ipndm_v, sa_solver: exact integrals")
    thresholding: bool | None      = flag("unipc, dpmpp, dpm_singlestep: clip each denoised image at its 99.5% quantile")
    clip: bool | None              = flag("consistency: do not clamp each denoised image to [-1, 1]", name="--no-clip", off=True)
    lower_order_final: bool | None = flag("unipc, dpmpp, dpmpp_m_sde, sa_solver: keep the order in the last steps", name="--no-lower-order-final", off=True)


@dataclass(frozen=True, kw_only=True)
class LevelFlags(Flags, heading="Noise levels"):
    """The noise levels."""

    steps: int | None        = flag("Number of noise levels N  [default: 18]", type=COUNT, metavar="INT")
    sigmas: str | None       = flag(f"{', '.join(GRIDS)}, or the levels themselves, as 80,10,1  [default: edm; logsnr for unipc, dpmpp, dpm_singlestep and sa_solver]", metavar="NAME|LIST", shell_complete=names(lambda: GRIDS))
    sigma_min: float | None  = flag("Lowest noise level  [default: 0.002; vp 0.0105, ve 0.02]", name="--sigma_min", type=POSITIVE, metavar="FLOAT")
    sigma_max: float | None  = flag("Highest noise level  [default: 80; vp 152, ve 100, iddpm 81]", name="--sigma_max", type=POSITIVE, metavar="FLOAT")
    exponent: float | None   = flag("EDM's time step exponent, above 1; the skip coefficient is --rho-bottom  [default: 7; time_uniform 1]", name="--rho", type=POSITIVE, metavar="FLOAT")
    sigma_init: float | None = flag("One-step generators: the image is D(x; sigma), x noise of this level, one evaluation", type=POSITIVE, metavar="FLOAT")
    ending: Ending | None    = flag("After the last level: step to 0, stop there, or denoise once more  [default: zero]")


@dataclass(frozen=True, kw_only=True)
class ChurnFlags(Flags, heading="Stochastic sampling"):
    """Noise that is put back on the way."""

    S_churn: float | None = flag("Strength of the noise that heun and EDM's ablation sampler add  [default: 0]", name="--S_churn", type=NOT_NEGATIVE, metavar="FLOAT")
    S_min: float | None   = flag("Lowest noise level that receives noise  [default: 0; sa_solver 0.72]", name="--S_min", type=NOT_NEGATIVE, metavar="FLOAT")
    S_max: float | None   = flag("Highest noise level that receives noise  [default: inf; sa_solver 25.1]", name="--S_max", type=NOT_NEGATIVE, metavar="FLOAT")
    S_noise: float | None = flag("Standard deviation of that noise  [default: 1]", name="--S_noise", type=NOT_NEGATIVE, metavar="FLOAT")
    eta: float | None     = flag("Strength of the noise that euler_a, dpmpp_sde and dpmpp_m_sde add; 0 is the ODE  [default: 1]", type=NOT_NEGATIVE, metavar="FLOAT")
    tau: float | None     = flag("Strength of the noise that sa_solver adds; 0 is the ODE  [default: 1]", type=NOT_NEGATIVE, metavar="FLOAT")


@dataclass(frozen=True, kw_only=True)
class AblationFlags(Flags, heading="EDM's ablation sampler (any of these selects it)"):
    """EDM's ablation space."""

    solver: Rule | None         = flag("ODE solver  [default: heun]")
    disc: Discretisation | None = flag("Time steps t_i, as --sigmas  [default: edm]")
    schedule: Schedule | None   = flag("Noise schedule sigma(t)  [default: linear]")
    scaling: Scaling | None     = flag("Signal scaling s(t)  [default: none]")


@dataclass(frozen=True, kw_only=True)
class SamplingFlags(Flags):
    """What to sample, and how."""

    network: NetworkFlags
    solver: SolverFlags
    levels: LevelFlags
    churn: ChurnFlags
    ablation: AblationFlags


@dataclass(frozen=True, kw_only=True)
class SkipFlags(Flags, heading="Skip-Tuning"):
    """How the skips are tuned, in the words of `skip.scale.SkipScale`."""

    bottom: float | None      = flag("Skip coefficient rho of the deepest decoder layer  [default: 1, the plain network]", name="--rho-bottom")
    top: float | None         = flag("What rho approaches towards the last layer  [default: 1]", name="--rho-top")
    spacing: Spacing | None   = flag("How the layers lie between the two  [default: paper]", name="--rho-spacing")
    constant: float | None    = flag("The same rho in every layer", name="--rho-constant")
    layers: str | None        = flag("rho of each layer, deepest first; or a file of coefficients (and methods), as tables.py tune writes", name="--rho-layers", metavar="LIST|FILE")
    time: Time | None         = flag("How rho changes with the noise level  [default: constant]", name="--rho-time")
    axis: Axis | None         = flag("What --rho-time is linear in; time: that which LDM, U-ViT, VP and iDDPM networks are told  [default: edm]", name="--rho-axis")
    window: str | None        = flag("Tune only where LOW < sigma <= HIGH", name="--rho-sigma", metavar="LOW,HIGH")
    target: SkipTarget | None = flag("What sees the scaled skip: the paper's Appendix C  [default: full]", name="--skip-target")
    method: str | None        = flag(f"What else acts on the skips ({', '.join(METHODS)}), as freeu2:b1=1.1,s1=0.9; several with a + between", name="--skip-method", metavar="TEXT", shell_complete=names(METHODS.keys))
