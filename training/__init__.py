"""Networks, and how they are trained, stored and loaded."""
