"""One tick of the sender: claim, compose, send, record, complete.

May import: campaigns, content, core, files, ledger, policy, preflight, ses.
"""
