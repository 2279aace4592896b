"""The tab Chat: base and adapted model side by side."""
