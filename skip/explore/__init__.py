"""Skip-Tuning by sliders: a live page, and one of images made before."""
