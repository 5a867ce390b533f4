"""autoencoder.py: its flags, and what it does."""
