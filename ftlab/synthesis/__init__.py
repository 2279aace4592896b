"""Rows that a model writes: questions and answers from documents, and more rows like those of a person."""
