"""Every kind of denoiser that a checkpoint can hold, by class name."""

from training.families.consistency import EDMConsistencyPrecond
from training.families.edm2.latents import EDM2LatentPrecond
from training.families.edm2.unet import EDM2Precond
from training.families.ldm.unet import LDMPrecond
from training.families.openai import ConsistencyPrecond
from training.families.uvit.precond import UViTImagePrecond, UViTPrecond
from training.precond import PRECONDS, Precond

FAMILIES: dict[str, type[Precond]] = {
    **PRECONDS,
    "ConsistencyPrecond": ConsistencyPrecond,
    "EDM2LatentPrecond": EDM2LatentPrecond,
    "EDM2Precond": EDM2Precond,
    "EDMConsistencyPrecond": EDMConsistencyPrecond,
    "LDMPrecond": LDMPrecond,
    "UViTImagePrecond": UViTImagePrecond,
    "UViTPrecond": UViTPrecond,
}
