"""The tab Runs: compare, export, continue, delete."""
