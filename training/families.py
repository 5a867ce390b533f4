"""Every kind of denoiser that a checkpoint can hold, by class name."""

from training.consistency_precond import EDMConsistencyPrecond
from training.networks_edm2 import EDM2Precond
from training.networks_ldm import LDMPrecond
from training.networks_openai import ConsistencyPrecond
from training.networks_uvit import UViTImagePrecond, UViTPrecond
from training.precond import PRECONDS, Precond

FAMILIES: dict[str, type[Precond]] = {
    **PRECONDS,
    "ConsistencyPrecond": ConsistencyPrecond,
    "EDM2Precond": EDM2Precond,
    "EDMConsistencyPrecond": EDMConsistencyPrecond,
    "LDMPrecond": LDMPrecond,
    "UViTImagePrecond": UViTImagePrecond,
    "UViTPrecond": UViTPrecond,
}
