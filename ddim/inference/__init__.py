"""A trained model for people: load it, sample, invert, serve."""
