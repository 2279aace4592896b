"""The blind test: contestants answer, raters vote without knowing whose answer is whose, votes give a verdict."""
