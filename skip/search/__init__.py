"""The search for the best rho with few images: rounds, its folder, its curve.

It measures through the cells of skip/tables, and knows no network or metric of its own.
"""
