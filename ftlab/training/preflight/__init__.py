"""Before a run: what it will need and cost, measured, and what is unusual about it."""
