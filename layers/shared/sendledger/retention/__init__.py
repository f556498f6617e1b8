"""How long content, events and ledgers are kept: it removes what is older, and keeps the totals true.

May import: core, files.
"""
