"""Stand-ins for the published files of the paper's profile: their formats and layouts, made-up and mostly tiny content.

A server in a thread hands them out as a mirror does, so that a program fetches them as it would the real ones.
"""

import http.server
import io
import pickle
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import edm_pickles
import numpy as np
import torch
from conftest import fill, golden_json
from standins_edm2 import edm2_snapshot, fill_edm2
from standins_ldm import write_kl, write_ldm
from standins_openai import written as write_openai
from standins_uvit import write_uvit

from metrics.detector import DETECTORS_TOML
from metrics.inception import InceptionV3
from training.families.edm2.unet import EDM2Precond
from training.precond import EDMPrecond

HASH = 'sha256 = "6726825d"\n'  # of the real Inception, which the stand-in cannot have


def network(facts: str = "fullsize_edm_imagenet64_cond_adm") -> bytes:
    """EDM's ImageNet-64 network in the published layout, a snapshot pickle saved on a GPU, but with few channels.

    Args:
        facts: of another of EDM's networks, the golden file with its constructor arguments.
    """
    kwargs = golden_json(facts)["network_kwargs"]
    kwargs = {name: value for name, value in kwargs.items() if name != "class_name"}
    tiny = {
        "model_channels": 16,
        "channel_mult": [1, 1, 1],
        "num_blocks": 1,
        "attn_resolutions": [],
    }
    net = fill(EDMPrecond(**kwargs | tiny))
    return edm_pickles.edm_snapshot(
        "EDMPrecond", kwargs | tiny, net.state_dict(), location="cuda:0"
    )


def inception() -> bytes:
    """The state dict of Inception-v3 in full size, as pytorch-fid publishes it; its features tell images apart."""
    filled = fill(InceptionV3()).state_dict()
    state = {name: value * 1.4 if value.ndim >= 2 else value for name, value in filled.items()}
    published = golden_json("inception")["state_dict"]
    assert {name: list(value.shape) for name, value in state.items()} == _shapes(published)
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def _shapes(published: dict[str, Any]) -> dict[str, list[int]]:
    return {name: shape for name, (shape, _) in published.items()}


def edm2_reference() -> bytes:
    """The same, as EDM2 publishes them."""
    with np.load(io.BytesIO(reference())) as arrays:
        return pickle.dumps(
            {"fid": dict(arrays), "fd_dinov2": {"mu": np.zeros(1024), "sigma": np.eye(1024)}},
            protocol=4,
        )


def reference() -> bytes:
    """Mean and covariance of 2048 features, as EDM publishes them, on the scale of the stand-in's features."""
    root = np.random.RandomState(0).standard_normal([2048, 64]) / 300
    file = io.BytesIO()
    np.savez(file, mu=np.linspace(0, 0.4, 2048), sigma=root @ root.T + 1e-3 * np.eye(2048))
    return file.getvalue()


def edm2() -> bytes:
    """EDM2's ImageNet-64 network, a snapshot pickle of float16 numbers, but with few channels."""
    tiny = {
        "model_channels": 16,
        "channel_mult": [1, 1, 1],
        "num_blocks": 1,
        "attn_resolutions": [],
    }
    return edm2_snapshot(fill_edm2(EDM2Precond(64, 3, 1000, channels_per_head=16, **tiny)))


def afhqv2() -> bytes:
    """EDM's unconditional AFHQv2 network, DDPM++ with few channels."""
    return network("fullsize_edm_afhqv2_64_uncond_vp")


def consistency() -> bytes:
    """OpenAI's consistency model of ImageNet-64, a bare state dict, but with few channels."""
    return _file(
        lambda path: write_openai(
            path.parent, path.name, mult=(1, 1, 1, 2), attention=(3,), classes=1000
        )
    )


def ldm() -> bytes:
    """LDM's class-conditional network with its VQ decoder, as Lightning saves them: 32x32 images of 16x16 latents."""
    return _file(lambda path: write_ldm(path, classes=1001))


def adm_reference() -> bytes:
    """ADM's reference batch: statistics of 2048 pooled features and of others, and the images."""
    with np.load(io.BytesIO(reference())) as statistics:
        arrays = dict(statistics)
    spatial = {"mu_s": np.zeros(2023), "sigma_s": np.eye(2023)}
    file = io.BytesIO()
    np.savez(file, arr_0=np.zeros([4, 256, 256, 3], np.uint8), **arrays, **spatial)
    return file.getvalue()


def put_uvit(folder: Path) -> None:
    """U-ViT's network and its KL autoencoder where a user saves them by hand: 16x16 images of 8x8 latents."""
    (folder / "downloads").mkdir()
    write_uvit(folder / "downloads" / "imagenet256_uvit_huge.pth", num_classes=1001)
    write_kl(folder / "downloads" / "autoencoder_kl.pth")


def _file(write: Callable[[Path], object]) -> bytes:
    """What `write` writes to the path that it is given."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder, "file"))
        return Path(folder, "file").read_bytes()


NVIDIA = "/nvlabs-fi-cdn.nvidia.com/edm"
FILES = {  # of table 2; path at the mirror: maker
    f"{NVIDIA}/pretrained/edm-imagenet-64x64-cond-adm.pkl": network,
    "/github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth": inception,
    f"{NVIDIA}/fid-refs/imagenet-64x64.npz": reference,
}
OTHER_FILES = {
    f"{NVIDIA}2/posthoc-reconstructions/edm2-img64-s-1073741-0.075.pkl": edm2,
    f"{NVIDIA}2/dataset-refs/img64.pkl": edm2_reference,
    f"{NVIDIA}/pretrained/edm-afhqv2-64x64-uncond-vp.pkl": afhqv2,
    f"{NVIDIA}/fid-refs/afhqv2-64x64.npz": reference,
    "/openaipublic.blob.core.windows.net/consistency/cd_imagenet64_lpips.pt": consistency,
    "/ommer-lab.com/files/latent-diffusion/nitro/cin/model.ckpt": ldm,
    "/openaipublic.blob.core.windows.net/diffusion/jul-2021/ref_batches/imagenet/256/"
    "VIRTUAL_imagenet256_labeled.npz": adm_reference,
}


@dataclass
class Mirror:
    """A running server: its URL, and the paths that were asked of it."""

    url: str
    asked: list[str] = field(default_factory=list)


@contextmanager
def mirror() -> Iterator[Mirror]:
    """Serve FILES and OTHER_FILES from memory at a free port of this machine; everything else is 404."""
    contents = {path: make() for path, make in (FILES | OTHER_FILES).items()}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            running.asked.append(self.path)
            if self.path not in contents:
                return self.send_error(404)
            self.send_response(200)
            self.send_header("Content-Length", str(len(contents[self.path])))
            self.end_headers()
            self.wfile.write(contents[self.path])
            return None

        def log_message(self, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        running = Mirror(f"http://127.0.0.1:{server.server_address[1]}")
        threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()
        yield running
        server.shutdown()


def patches(folder: Path) -> dict[str, Any]:
    """What differs from the programs as they are, by name as `processes.run` takes it.

    The default Inception has no hash, since the stand-in's is another one, and passes for the published one; and
    features are written every 2 images and not every 256, so that there is something between the beginning and the end
    of a run of 4. Files count as old, so that each is hashed once, as published ones are.

    Args:
        folder: where a list of detectors goes.
    """
    first, default, rest = DETECTORS_TOML.read_text().partition("[inception-2015-12-05]\n")
    assert HASH in rest
    entries = folder / "detectors.toml"
    entries.write_text(first + default + rest.replace(HASH, "", 1))
    return {
        "metrics.detector:load_entries.__wrapped__.__defaults__": (entries,),
        "metrics.inception:PUBLISHED": ("",),
        "metrics.feature_store:CHUNK_IMAGES": 2,
        "dnnlib.util:SETTLED_SECONDS": -1.0,
    }
