"""Prepared data on disk: crops, captions, the mean and variance of pixels."""
