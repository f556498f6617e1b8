"""Who calls the API: keys, roles, repeated requests and sessions of the console.

May import: core.
"""
