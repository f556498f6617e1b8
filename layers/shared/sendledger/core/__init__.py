"""What every room needs: settings, the database, its tables, errors, pages of lists, the audit log.

May import: no other room.
"""
