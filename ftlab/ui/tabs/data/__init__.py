"""The tab Data: choose, read, check, curate, version."""
