"""Lists of leads and ledgers of campaigns as files.

May import: campaigns, core, files, leads.
"""
