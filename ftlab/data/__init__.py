"""From files to frozen examples: load, detect the format, convert, split, render.

Import the modules one by one (`from ftlab.data import splits`); importing the package itself costs nothing.
"""
