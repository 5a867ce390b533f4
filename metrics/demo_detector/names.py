"""What a demo detector can be made of: quick to import, as torch is not."""

ARCH = "conv"  # of the first detector, and of files that name none
# MODULE:NAME, of a module of this folder.
BODIES = {ARCH: "bodies:ConvBody", "resnet": "bodies:ResNetBody"}
