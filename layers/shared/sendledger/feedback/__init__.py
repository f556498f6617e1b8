"""What comes back: SES events, replies, unsubscribes, and the suppressions that follow from them.

May import: campaigns, content, core, ledger.
"""
