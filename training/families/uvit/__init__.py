"""U-ViT, a transformer with long skips, and its checkpoints."""
