"""What the paper measures on a network, one module a study: numbers per image, so that work can be split."""
