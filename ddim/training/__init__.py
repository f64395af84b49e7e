"""Keras's `fit` and what is around it."""
