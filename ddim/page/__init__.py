"""The page of a trained model in a browser; needs Gradio, the extra `page`."""
