"""Methods that act on the long skips of a trained network, beside its coefficients: one file each, and a table.

Of the networks they know the order and the levels of the skips; how images are sampled is not theirs.
"""
