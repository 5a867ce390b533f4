"""Things that know torch, but not diffusion."""
