"""Fine-tuning rho, or a network with it: objectives, the loop, and the command `python -m skip.finetune`.

Training from nothing lives in training/; what is shared with it is imported from there.
"""
