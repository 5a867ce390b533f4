"""The decoders against the official implementation's vectors. KL-f8: see test_networks_uvit.py."""

from typing import Any

import pytest
import torch
from conftest import fill, golden_json, golden_npz, relative_error
from standins_ldm import vq_decoder

from training.families.latent import autoencoder
from training.families.latent.autoencoder import KLDecoder, VQDecoder, nearest
from training.families.latent.decoder_files import decoder_arguments, decoder_parts

FACTS, ARRAYS = golden_json("ldm")["vq"], golden_npz("ldm")


def golden() -> VQDecoder:
    """The decoder of the reference vectors."""
    names = ("ch", "ch_mult", "num_res_blocks", "out_ch", "z_channels")
    kwargs: dict[str, Any] = {name: FACTS["kwargs"]["ddconfig"][name] for name in names}
    return fill(  # type: ignore[return-value]
        VQDecoder(
            **kwargs, embed_dim=FACTS["kwargs"]["embed_dim"], n_embed=FACTS["kwargs"]["n_embed"]
        )
    ).eval()


@torch.inference_mode()
def test_golden_vq_decoder() -> None:
    net, z = golden(), torch.from_numpy(ARRAYS["vq/z"])
    parts = ("decoder.", "post_quant_conv.", "quantize.")
    assert {k: list(v.shape) for k, v in net.state_dict().items()} == {
        k: v[0] for k, v in FACTS["state_dict"].items() if k.startswith(parts)
    }
    assert net.indices(z).flatten().tolist() == ARRAYS["vq/indices"].tolist()
    assert relative_error(net.quantized(z), ARRAYS["vq/quantized"]) < 1e-6
    assert relative_error(net(z), ARRAYS["vq/decode"]) < 1e-5
    assert relative_error(net(z, quantize=False), ARRAYS["vq/decode_no_quantize"]) < 1e-5
    net.scale_factor = 0.25
    assert relative_error(net(z / 4), ARRAYS["vq/decode"]) < 1e-5


def test_the_published_decoder_fits() -> None:
    published = golden_json("fullsize_ldm_cin256_v2")
    shapes = {name: shape for name, (shape, _) in published["first_stage"]["state_dict"].items()}
    tensors = decoder_parts(
        {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    )
    kwargs = decoder_arguments(tensors)
    assert kwargs.pop("class") == "VQDecoder"
    with torch.device("meta"):
        for net in (VQDecoder(), VQDecoder(**kwargs)):  # the defaults are its sizes
            assert {k: list(v.shape) for k, v in net.state_dict().items()} == {
                k: shapes[k] for k in tensors
            }
            assert net.factor == 4


@torch.inference_mode()
def test_a_vector_of_the_codebook_is_its_own_nearest() -> None:
    net = vq_decoder()
    assert isinstance(net, VQDecoder)
    codebook = net.quantize["embedding"].weight
    index = torch.randint(64, [2, 5, 7])
    z = codebook[index].permute(0, 3, 1, 2)
    assert torch.equal(net.indices(z), index)
    assert torch.equal(net.quantized(z + 1e-5), z)
    far = torch.cdist(torch.full([1, 3], 40.0), codebook).argmin()
    assert (net.indices(torch.full([1, 3, 2, 2], 40.0)) == far).all()


@pytest.mark.parametrize("distances", [1, 640, 2**19])
def test_nearly_equal_distances_are_told_apart(
    distances: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(autoencoder.DISTANCES, "cpu", distances)
    random = torch.Generator().manual_seed(0)
    # There |v|^2 - 2 v w + |w|^2 drowns in rounding
    codebook = 100 + torch.randn(64, 3, generator=random)
    a, b = codebook[torch.randint(64, [2, 300], generator=random)]
    vectors = (a + b) / 2 + 1e-4 * (a - b)  # a is nearer by 2e-4 of their distance
    squares = (vectors.double()[:, None] - codebook.double()).square().sum(2)
    assert torch.equal(nearest(vectors, codebook), squares.argmin(1))


def test_of_two_equally_near_entries_the_first_is_taken() -> None:
    codebook = torch.tensor([[3.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]])
    assert nearest(torch.tensor([[0.0, 5.0], [1.0, 0.0], [2.0, 1.0]]), codebook).tolist() == [
        1,
        1,
        0,
    ]


@torch.inference_mode()
def test_half_precision_begins_behind_the_codebook() -> None:
    net, z = golden(), torch.from_numpy(ARRAYS["vq/z"])
    net.set_dtype(torch.bfloat16)
    assert net.indices(z).flatten().tolist() == ARRAYS["vq/indices"].tolist()
    images = net(z)
    assert images.dtype == torch.float32
    assert 1e-5 < relative_error(images, ARRAYS["vq/decode"]) < 2.5e-2


@pytest.mark.parametrize("missing", ["decoder.conv_out.weight", "post_quant_conv.weight"])
def test_other_tensors_are_refused(missing: str) -> None:
    tensors = {name: value for name, value in golden().state_dict().items() if name != missing}
    with pytest.raises(ValueError, match=missing):
        decoder_arguments(tensors)


@pytest.mark.parametrize("levels", [[], [1]])
def test_levels_with_attention_are_recorded_where_there_are_any(levels: list[int]) -> None:
    """Files that were written before there were any say nothing of them, and those without go on so."""
    sizes = {
        "ch": 32,
        "ch_mult": [1, 1],
        "num_res_blocks": 1,
        "out_ch": 1,
        "z_channels": 4,
        "embed_dim": 4,
    }
    recorded = KLDecoder(**sizes, attn_levels=levels).init_kwargs  # type: ignore[arg-type]
    assert recorded == sizes | {"scale_factor": 0.18215} | (
        {"attn_levels": levels} if levels else {}
    )
