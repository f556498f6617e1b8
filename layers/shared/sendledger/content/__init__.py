"""What is written to a lead: email templates, workflows, and their rendering.

May import: core.
"""
