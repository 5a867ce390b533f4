"""The plan of a U-Net: which blocks its two towers have, how wide they are, and where the long skips go."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Place(NamedTuple):
    """Where a block stands.

    Attributes:
        level: 0 is the resolution of the image, and each further one half of that before it.
        name: in its level: "conv" (the first convolution), "down", "block0", ..; "in0", "in1" (the middle), "up".
        in_channels: of its input, the long skip's included.
        out_channels: of its output.
        attention: whether it has self-attention.
        takes_skip: whether a long skip joins its input.
        last: whether it is the last of its level in its tower.
    """

    level: int
    name: str
    in_channels: int
    out_channels: int
    attention: bool = False
    takes_skip: bool = False
    last: bool = False

    def at(self, img_resolution: int) -> str:
        """The name that EDM gives it: 16x16_block0."""
        side = img_resolution >> self.level
        return f"{side}x{side}_{self.name}"

    def beside(self, what: str) -> "Place":
        """A layer beside the block, which the image takes past it: 16x16_aux_skip."""
        return self._replace(name=f"aux_{what}", takes_skip=False)


@dataclass(frozen=True)
class Tower:
    """A tower down and a tower up; every place of the first sends a long skip to a block of the second.

    Args:
        in_channels: of the image, and whatever is added to it.
        stem: channels after the first convolution.
        widths: channels of each level.
        num_blocks: blocks a level on the way down; there is one more on the way up.
        attended: levels with self-attention; the middle has it too.
    """

    in_channels: int
    stem: int
    widths: Sequence[int]
    num_blocks: int
    attended: Collection[int] = ()

    def encoder(self) -> Iterator[Place]:
        """The way down, from the image's resolution to the lowest."""
        channels = self.stem
        for level, width in enumerate(self.widths):
            if level == 0:
                yield Place(level, "conv", self.in_channels, channels)
            else:
                yield Place(level, "down", channels, channels)
            for i in range(self.num_blocks):
                last = i == self.num_blocks - 1
                yield Place(level, f"block{i}", channels, width, level in self.attended, last=last)
                channels = width

    def decoder(self) -> Iterator[Place]:
        """The way up, from the middle; the long skips come in last first."""
        skips = [place.out_channels for place in self.encoder()]
        channels, lowest = skips[-1], len(self.widths) - 1
        for level in range(lowest, -1, -1):
            if level == lowest:
                yield Place(level, "in0", channels, channels, attention=True)
                yield Place(level, "in1", channels, channels)
            else:
                yield Place(level, "up", channels, channels)

            for i in range(self.num_blocks + 1):
                width = self.widths[level]
                attention, last = level in self.attended, i == self.num_blocks
                yield Place(
                    level, f"block{i}", channels + skips.pop(), width, attention, True, last
                )
                channels = width


def levels_of(resolutions: Collection[int], img_resolution: int, levels: int) -> list[int]:
    """Which of the levels have one of these resolutions."""
    return [level for level in range(levels) if img_resolution >> level in resolutions]
