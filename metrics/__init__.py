"""Numbers from features: which network makes them, their statistics, and the distances between them."""
