"""Faster ways to compute what torch computes: oneDNN and Winograd on CPUs, group norm on CUDA, and kept weights.

Each gives torch's result to rounding; choose.py says when it is taken, and compute.py is what layers call. No layer
with parameters lives here.
"""
