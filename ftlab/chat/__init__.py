"""Talk to a base and its adapted model at once."""
