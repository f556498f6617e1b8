"""Segments: saved filters over leads, as typed conditions that become SQL.

May import: core.
"""
