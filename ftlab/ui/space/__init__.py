"""The app and its pages in a Hugging Face Space."""
