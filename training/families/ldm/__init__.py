"""Latent diffusion's U-Net and its checkpoints."""
