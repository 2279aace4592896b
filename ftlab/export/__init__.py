"""Exports: files that give the same answers elsewhere as the run did here, their model card, and the Hub."""
