"""EDM2's networks: magnitude-preserving layers, the U-Net made of them, and that of latents."""
