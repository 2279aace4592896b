"""The tab Preferences: learn from pairs, thumbs or rewards."""
