"""The flags that python -m training.checkpoint alone has."""

from dataclasses import dataclass

from dnnlib.flags import COUNT, Finite, Flags, flag

# fmt: off


@dataclass(frozen=True, kw_only=True)
class ListFlags(Flags):
    """How `list` answers."""

    json: bool = flag("All that is known of each, as JSON.", default=False)


@dataclass(frozen=True, kw_only=True)
class ConvertFlags(Flags):
    """How `convert` reads and writes."""

    # fmt: off
    autoencoder: str | None = flag("Of a latent network: its decoder is stored with it.", metavar="PATH|URL")
    half: bool              = flag("Store the weights as float16: half the size, rounded to 11 bits.", default=False)


@dataclass(frozen=True, kw_only=True)
class ReconstructFlags(Flags):
    """Which average `reconstruct` makes."""

    # fmt: off
    std: float         = flag("Its length: the spread of what it averages, as a share of the training.",
                              type=Finite(), required=True, metavar="FLOAT")
    images: int | None = flag("After how many images of training  [default: at the last that is stored]", type=COUNT,
                              metavar="INT")
