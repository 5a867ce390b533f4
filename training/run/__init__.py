"""A run of training: its settings, its state, its clock and signals, its reports, its optimiser.

What a step computes is not here: that is training_loop.py, and distillation/ and skip/finetune/ beside it.
"""
