"""The tab Train: configure a run, check that it fits, start it, follow it."""
