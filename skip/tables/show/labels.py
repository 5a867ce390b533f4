"""What values and settings are called where people read them."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from dnnlib.util import is_url
from dnnlib.words import written
from metrics.demo_detector.network import NAME
from metrics.names import QUANTITIES
from skip.tables.item import Item

VALUES = {
    "weight_u": "norm of weights on u",
    "weight_d": "norm of weights on d",
    "weight_ratio": "norm of weights, d over u",
}
# Of other detectors than Inception-v3, in publications
OWN_NAMES = {"fid-dinov2-1024d": "FD-DINOv2"}
FORMS = {"unbiased": "unbiased", "v": "V-statistic"}  # of MMD^2
# Settings whose words in the files say little to a reader: in legends, captions and lists.
PHRASES = {
    ("across", "bottom-to-one"): "rho rising to 1",
    ("across", "constant"): "one rho in every layer",
    ("sampler", "unipc"): "UniPC",
    ("sampler", "heun"): "Heun",
    ("sampler", "euler"): "Euler",
    ("sampler", "dpm_2"): "DPM-2",
    ("sampler", "dpmpp"): "DPM-Solver++",
    ("sampler", "dpm_singlestep"): "DPM-Solver, singlestep",
    ("sampler", "ipndm"): "iPNDM",
    ("sampler", "ipndm_v"): "iPNDM_v",
    ("sampler", "deis"): "DEIS",
    ("sampler", "consistency"): "one step",
    ("input", "noise"): "pure noise",
    ("input", "data"): "noisy images",
    ("function", "raw"): "the raw network",
    ("function", "denoiser"): "the denoiser D",
    ("time", "constant"): "rho constant in time",
    ("time", "increasing"): "rho rising with noise",
    ("time", "decreasing"): "rho falling with noise",
    ("axis", "edm"): "on EDM's step coordinate",
    ("axis", "time"): "linear in the network's own time",
    ("axis", "sigma"): "linear in sigma",
    ("axis", "log-sigma"): "linear in log sigma",
    ("weighting", "edm"): "EDM's weight",
    ("weighting", "one"): "weight 1",
    ("trained", "nothing"): "nothing trained",
    ("trained", "free rho"): "free rho trained",
    ("trained", "bounded rho"): "bounded rho trained",
    ("trained", "all weights"): "all weights trained",
    ("target", "full"): "the whole block",
    ("target", "shortcut"): "the shortcut alone",
    ("target", "norm_input"): "the first norm's input alone",
    ("target", "norm_output"): "the first norm's output alone",
}


def heading(item: Item) -> str:
    """ "Table 2: Few steps", the name as the paper writes it."""
    found = re.fullmatch(r"(table|figure)(\d+)", item.name)
    name = item.name if found is None else f"{found[1].capitalize()} {found[2]}"
    return f"{name}: {item.title}"


def title(item: Item) -> str:
    """The heading of an item's picture, with its network where all that is drawn is of one."""
    drawn = [cell for cell in item.cells if cell.by_name.get("network")]
    networks = {shown(cell.by_name["network"]) for cell in drawn}
    if len(networks) != 1:
        return heading(item)
    return f"{heading(item)} (network {networks.pop()})"


def label(name: str, instead: str | None = None) -> str:
    """A value's name for people; that of another feature network than Inception-v3 stays in it.

    "fid" -> "FID", "fid-demo-fashion-mnist" -> "demo FID", "fid-clip-vitl14" -> "FID (clip-vitl14)",
    "fid-demo-fashion-mnist-resnet" -> "demo FID (fashion-mnist-resnet)", as of any demo detector but the first,
    "gradient_norm" -> "gradient norm", "rbf_0.5_v" -> "RBF 0.5, V-statistic".

    Args:
        name: as the study gives it.
        instead: what to call the metric, instead of its own name.
    """
    metric, _, detector = name.partition("-")
    kernel, _, form = name.rpartition("_")
    if kernel and form in FORMS:
        return (
            f"{kernel.replace('_', ' ').replace('rbf', 'RBF').replace('imq', 'IMQ')}, {FORMS[form]}"
        )
    if metric not in QUANTITIES:
        return instead or VALUES.get(name, name.replace("_", " "))

    text = instead or QUANTITIES[metric].label
    if not detector:
        return text
    if name in OWN_NAMES:
        return OWN_NAMES[name]
    if not detector.startswith("demo"):
        return f"{text} ({detector})"
    text = text if "demo" in text else f"demo {text}"
    return text if detector in ("demo", NAME) else f"{text} ({detector.removeprefix('demo-')})"


def resolve(metric: str, names: Iterable[str]) -> str | None:
    """The value that a metric means: of its name, or the metric with another feature network; None if there is none."""
    names = list(names)
    if metric in names:
        return metric
    if metric not in QUANTITIES:
        return None
    return next((name for name in names if name.startswith(f"{metric}-")), None)


def shown(value: Any) -> str:
    """A setting's value in words: "0.8", "0.002 to 80", "none"; of a URL the file's name."""
    if isinstance(value, list | tuple):
        numbers = all(isinstance(part, float | int) for part in value)
        return (" to " if numbers else ", ").join(map(shown, value))
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, str) and is_url(value):
        return value.rpartition("/")[2]
    return str(value)


def caption(settings: Mapping[str, Any]) -> str:
    """Settings in words: "sampler unipc, steps 9"."""
    return ", ".join(f"{written(name)} {shown(value)}" for name, value in settings.items())


def in_words(settings: Mapping[str, Any]) -> str:
    """Settings as a reader would say them: "UniPC, 9 steps"; those without a value or an effect are left out."""
    told = {name: value for name, value in settings.items() if value is not None}
    if not told.get("train_images", 1):
        del told["train_images"]
    if settings.get("train_lr", 0) is None:  # nothing is trained, or as it is by default
        told.pop("train_factor", None)
    if told.get("rho") == 1:  # of every layer
        told.pop("across", None)
    return ", ".join(_phrase(name, value) for name, value in told.items())


def _phrase(name: str, value: Any) -> str:
    if isinstance(value, str) and (name, value) in PHRASES:
        return PHRASES[name, value]
    if name == "method":
        return str(value)
    if name == "steps":
        return f"{value} steps"
    if name == "trajectory_steps":
        return f"mean over {value} steps"
    if name == "train_images":
        return f"{value} images of training"
    if name == "train_lr":
        return f"learning rate {shown(value)}"
    return caption({name: value})
