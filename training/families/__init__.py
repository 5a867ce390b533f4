"""Networks of other families than EDM's, a folder each: their modules, preconditioning and checkpoints.

Each offers what `training.precond.Precond` promises; table.py lists how files are told apart. EDM's own networks are in
training/networks.py.
"""
