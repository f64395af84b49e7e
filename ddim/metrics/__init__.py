"""Inception features of images, and figures that compare them."""
