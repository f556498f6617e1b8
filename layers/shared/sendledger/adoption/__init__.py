"""Takes over the campaigns of an existing LeadNexConnect database.

May import: campaigns, content, core.
"""
