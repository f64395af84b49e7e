"""Measurements; each prints a table and is run by hand."""
