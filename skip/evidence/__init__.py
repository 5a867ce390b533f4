"""What measurements say: estimates with their errors, the best rho of a sweep, and the verdict on a claim.

Knows numbers and blocks of seeds; not networks, files or how anything was measured.
"""
