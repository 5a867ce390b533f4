"""Where curves and pictures can be sent besides the files that hold them: TensorBoard, Weights & Biases, trackio.

A sink is a file here and a line in table.py. What is sent is read from files; nothing here knows what they are of.
"""
