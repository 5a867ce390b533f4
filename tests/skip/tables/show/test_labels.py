"""What values are called."""

import pytest

from dnnlib.keywords import check_values
from skip.studies.inversion import STATISTICS
from skip.tables.cells.registry import STUDIES
from skip.tables.cells.words import words_of
from skip.tables.show.labels import FORMS, PHRASES, in_words, label, resolve


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("fid", "FID"),
        ("fid-demo-fashion-mnist", "demo FID"),
        ("fid-demo-fashion-mnist-resnet", "demo FID (fashion-mnist-resnet)"),
        ("fid_inf-demo-fashion-mnist", "demo FID∞"),
        ("fid_bias-demo-fashion-mnist", "demo FID's bias"),
        ("is-demo", "demo IS"),
        ("rbf_0.5_unbiased", "RBF 0.5, unbiased"),
        ("imq_v", "IMQ, V-statistic"),
        ("precision-demo", "demo precision"),
        ("immd_median", "IMMD (median sigma)"),
        ("fid-clip-vitl14", "FID (clip-vitl14)"),
        ("fid-dinov2-1024d", "FD-DINOv2"),
        ("fid_inf-dinov2-1024d", "FID∞ (dinov2-1024d)"),
        ("resnet-101 loss", "resnet-101 loss"),
        ("gradient_norm", "gradient norm"),
    ],
)
def test_labels(name: str, text: str) -> None:
    assert label(name) == text


def test_resolve() -> None:
    assert resolve("fid", ["is-demo", "fid-demo"]) == "fid-demo"
    assert resolve("fid", ["fid-demo", "fid"]) == "fid"
    assert resolve("resnet", ["resnet-101 loss"]) is None and resolve("fid", []) is None


def test_settings_as_a_reader_would_say_them() -> None:
    curve = {"sampler": "unipc", "steps": 9, "across": "constant", "train_lr": None}
    assert in_words(curve) == "UniPC, 9 steps, one rho in every layer"
    training = {"trained": "all weights", "train_images": 1600, "train_lr": 1e-5, "rho": 1.0}
    told = "all weights trained, 1600 images of training, learning rate 1e-05, rho 1"
    assert in_words(training) == told
    nothing = {"trained": "nothing", "train_images": 0, "rho": 0.8}
    assert in_words(nothing) == "nothing trained, rho 0.8"
    assert in_words({"rho": 0.8, "across": "bottom-to-one"}) == "rho 0.8, rho rising to 1"
    assert in_words({"rho": 1.0, "across": "bottom-to-one"}) == "rho 1"
    assert in_words({"window": (0.5, 2.0), "network": "demo"}) == "window 0.5 to 2, network demo"


def test_a_phrase_is_of_a_choice_that_exists() -> None:
    known = {name: word for study in STUDIES.values() for name, word in words_of(study).items()}
    for name, value in PHRASES:
        assert name in known
        check_values({name: value}, {name: known[name].hint})


def test_every_form_of_mmd_has_a_name() -> None:
    assert FORMS.keys() == STATISTICS.keys()
