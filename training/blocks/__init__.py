"""Building blocks that several networks share: layers, the U-Net's block with its skip, transformers.

No whole network and no preconditioning lives here.
"""
