"""What would go wrong before a campaign starts, why one that runs sends nothing, and when its emails will go.

May import: campaigns, content, core, policy.
"""
