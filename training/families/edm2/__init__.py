"""EDM2's networks: magnitude-preserving layers and the U-Net made of them."""
