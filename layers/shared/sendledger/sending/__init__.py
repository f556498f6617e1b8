"""One tick of the sender: claim, compose, send, record, complete.

May import: campaigns, content, core, ledger, preflight, ses.
"""
