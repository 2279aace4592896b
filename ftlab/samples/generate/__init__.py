"""The scripts that write the sample data sets; `python -m ftlab.samples.generate` runs them."""
