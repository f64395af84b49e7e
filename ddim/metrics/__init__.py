"""Features of images, and figures that compare them."""
