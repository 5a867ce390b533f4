"""What samplers, their settings and noise levels are called, and where each is: quick to import, as torch is not.

A place is MODULE:NAME, of a module of this folder.
"""

from typing import Literal

SOLVERS = {
    "euler": "onestep:EULER",
    "heun": "onestep:HEUN",
    "dpm_2": "onestep:DPM_2",
    "unipc": "unipc:UNIPC",
    "dpmpp": "dpmpp:DPMPP",
    "dpm_singlestep": "singlestep:DPM_SINGLESTEP",
    "ipndm": "adams:IPNDM",
    "ipndm_v": "adams:IPNDM_V",
    "deis": "adams:DEIS",
    "euler_a": "ancestral:EULER_A",
    "dpmpp_sde": "dpmpp_sde:DPMPP_SDE",
    "dpmpp_m_sde": "dpmpp_sde:DPMPP_M_SDE",
    "sa_solver": "sa_solver:SA_SOLVER",
    "ablation": "ablation:ABLATION",
    "consistency": "consistency:CONSISTENCY",
}
SIGMAS = {
    "edm": "sigmas:edm",
    "logsnr": "sigmas:logsnr",
    "vp": "sigmas:vp",
    # EDM's Table 1 spaces sigma ** 2 geometrically, which spaces sigma geometrically.
    "ve": "sigmas:logsnr",
    "iddpm": "sigmas:iddpm",
    "time_uniform": "sigmas:time_uniform",
}
NETWORK_GRIDS = (
    "ddim",
    "timesteps",
)  # of networks with a table of times: net.sigma_grids[name](steps)
GRIDS = (*SIGMAS, *NETWORK_GRIDS)
# Ten times the levels of networks with a table; more are a slip of the keyboard.
MOST_STEPS = 10_000

Ending = Literal["zero", "sigma_min", "denoise"]
Labels = Literal["random", "balanced"]

UniPCVariant = Literal["bh1", "bh2"]
DEISVariant = Literal["tab", "rhoab", "logrho"]
Prediction = Literal["x0", "noise"]

# Of EDM's ablation space.
Rule = Literal["euler", "heun"]
Schedule = Literal["vp", "ve", "linear"]
Scaling = Literal["vp", "none"]
