"""Training a small KL autoencoder, and what it is for: latents as a data set, and images back from them.

Its network is in training/families/latent; metrics of what it reconstructs are fid.py's.
"""
