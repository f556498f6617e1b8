"""Who calls the API: keys, roles and repeated requests.

May import: core.
"""
