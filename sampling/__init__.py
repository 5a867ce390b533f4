"""Noise, noise levels and ODE solvers; never heard of rho, U-Nets or files."""
