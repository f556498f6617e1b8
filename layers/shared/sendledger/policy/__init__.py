"""When a campaign may send, and how much: sending schedules, senders with caps, and the lanes that its emails wait in.

May import: core.
"""
