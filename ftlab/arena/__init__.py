"""The blind test: contestants answer, raters vote without knowing whose answer is whose, a verdict sums it up."""
