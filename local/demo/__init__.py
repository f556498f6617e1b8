"""The demo that `make run` loads into an empty database: leads, three email templates, a workflow and a campaign."""
