"""What latent and discrete-time families share: noise levels of a table of times, decoders, preconditioning."""
