"""Files from and for people: the bucket that holds them, CSV that is read and CSV that is written.

May import: core.
"""
