"""Demo detectors as files: safetensors with a record of what the network is and how it was made."""

import json
import os
import re
from dataclasses import asdict, fields

import safetensors
import safetensors.torch
import torch

from dnnlib.files import check_readable
from dnnlib.text import printable
from dnnlib.util import file_sha256
from metrics.demo_detector.names import ARCH
from metrics.demo_detector.network import NAME, DemoDetector
from metrics.demo_detector.shape import Shape
from metrics.weights import load_weights
from torch_utils.safetensors_files import check_safetensors, write_safetensors

FORMAT = "skip-tuning-edm-detector/1"
METADATA_KEY = "detector"  # one key, as safetensors writes several in random order


def load_demo_detector(path: str | os.PathLike[str]) -> DemoDetector:
    """Load what `train` wrote, on the CPU, ready for use.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged or another program's.
    """
    check_readable(path)
    try:
        facts = read_facts(path)
        if facts.get("format") != FORMAT:
            raise ValueError(
                f"a safetensors file, but not of a demo detector: it lacks the format {FORMAT!r}"
            )
        check_safetensors(path)
        shape, name, arch = _recorded(facts)
        with torch.device("meta"):
            net = DemoDetector(file_sha256(path), shape, name, arch)
        load_weights(net, safetensors.torch.load_file(path))
    except (ValueError, safetensors.SafetensorError) as error:
        raise ValueError(f"{path}: {printable(error)}") from error
    return net.requires_grad_(False).eval()


def _recorded(facts: dict[str, object]) -> tuple[Shape, str, str]:
    """The shape, name and architecture; early files of the bundled kind record none of them.

    Raises:
        ValueError: if one is none.
    """
    shape, name = facts.get("shape", {}), facts.get("name", NAME)
    if not isinstance(shape, dict) or not set(shape) <= {field.name for field in fields(Shape)}:
        raise ValueError("what it records as the shape of its images is none")
    if not isinstance(name, str) or not re.fullmatch(r"demo[a-z0-9-]{0,60}", name):
        raise ValueError(
            f"it records the name {printable(repr(name), 80)}; need demo-, letters and digits"
        )
    arch = facts.get("arch", ARCH)
    if not isinstance(arch, str):
        raise ValueError(f"it records the architecture {printable(repr(arch), 80)}, no name")
    return Shape(**shape), name, arch


def read_facts(path: str | os.PathLike[str]) -> dict[str, object]:
    """What `train` recorded: format, name, arch, shape, test_accuracy, data and settings; empty for others' files.

    Raises:
        ValueError, safetensors.SafetensorError: if the file is damaged.
    """
    with safetensors.safe_open(path, framework="pt") as file:
        recorded = (file.metadata() or {}).get(METADATA_KEY, "{}")
    try:
        facts = json.loads(recorded)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its metadata {METADATA_KEY!r} is no JSON") from error
    if not isinstance(facts, dict):
        raise ValueError(f"its metadata {METADATA_KEY!r} is no JSON object")
    return facts


def save(net: DemoDetector, path: str | os.PathLike[str], facts: dict[str, object]) -> None:
    """Store the detector as safetensors, atomically; equal ones make equal files."""
    tensors = {name: value.contiguous() for name, value in net.state_dict().items()}
    own = {"format": FORMAT, "name": net.name, "arch": net.arch, "shape": asdict(net.shape)}
    metadata = {METADATA_KEY: json.dumps(own | facts, sort_keys=True)}
    write_safetensors(path, tensors, metadata)
