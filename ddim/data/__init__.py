"""Prepared data on disk: crops, and the mean and variance of their pixels."""
