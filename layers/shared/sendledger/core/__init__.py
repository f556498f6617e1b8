"""What every room needs: settings, the database and its tables, errors, pagination, the audit log.

May import: no other room.
"""
