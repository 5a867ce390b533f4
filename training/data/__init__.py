"""From foreign files to a data set: sources, names and recipes of images, the import.

Reading a finished data set is training/dataset.py; nothing here knows networks.
"""
