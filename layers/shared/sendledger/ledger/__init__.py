"""The rows of `scheduled_emails` from claim to result, and the state that all senders share.

May import: campaigns, content, core, policy, ses.
"""
