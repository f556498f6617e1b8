"""The life of a campaign: what starts it, schedules its emails, pauses, resumes, cancels and completes it.

May import: core, content, policy, segments.
"""
