"""The people who get mail: stored, imported in batches, read from files, and erased.

May import: core, feedback, files, segments.
"""
