"""The tab Blind test: make a test, send links, read the verdict."""
