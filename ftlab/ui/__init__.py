"""The browser app. Packages below this one do not import Gradio, and this one does not implement training."""
