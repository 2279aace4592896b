"""The blind test: contestants answer, raters vote without knowing whose answer is whose, a verdict says what it shows."""
