"""What would go wrong before a campaign starts, and why one that runs sends nothing.

May import: campaigns, content, core, policy.
"""
