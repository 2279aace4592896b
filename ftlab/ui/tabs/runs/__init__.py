"""The tab Runs: compare, hand over, continue, delete."""
