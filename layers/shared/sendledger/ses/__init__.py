"""One request to Amazon SES and what its answer means. It knows nothing of campaigns and uses no table.

May import: core.
"""
