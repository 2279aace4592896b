"""One run: its process, its stages, its supervision."""
