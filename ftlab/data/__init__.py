"""From files to frozen examples: load, detect the format, convert, split, render.

The modules are imported one by one (`from ftlab.data import splits`), so that this package costs nothing to import.
"""
