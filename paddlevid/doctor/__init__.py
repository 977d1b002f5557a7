"""What may be wrong on a machine, with its decoders, with the lists of a recipe and with the videos in them.

Each section is a function that yields `Finding`s as it finds them; tools/doctor.py prints them.
"""
