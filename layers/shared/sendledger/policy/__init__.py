"""When a campaign may send: sending schedules with their openings, and the lanes that its emails wait in.

May import: core.
"""
