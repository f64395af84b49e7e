"""Inception features of images, and Kernel Inception Distance between them."""
