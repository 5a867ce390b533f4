"""Faster ways to compute what torch computes: oneDNN and Winograd on CPUs, group norm on CUDA, and kept weights.

Each gives torch's result to rounding, and says when it is taken; no layer with parameters lives here.
"""
