"""What a comparison says to people: one page for whoever decides, tables, pictures, the notebook of a run."""
