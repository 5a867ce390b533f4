"""One-step students: consistency distillation and Diff-Instruct, and the loop that both use.

Ordinary training is training/training_loop.py.
"""
