"""A result handed over: files that answer elsewhere as the run did here, their card, and the Hub."""
