"""Skip-Tuning (https://arxiv.org/abs/2402.15170, ICML 2024), and what the paper does with it."""
