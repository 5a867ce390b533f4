"""What the larger programs beside this folder are made of: each has its flags, and its work.

flags.py is quick to import, and work.py is imported when it is to be done: --help is there at once.
"""
