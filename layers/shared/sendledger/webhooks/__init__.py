"""Outgoing webhooks: telling other people's systems what has happened, at least once.

May import: core.
"""
