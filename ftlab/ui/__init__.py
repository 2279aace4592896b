"""The browser app. Nothing below this package knows Gradio, and nothing in it knows how a model is trained."""
