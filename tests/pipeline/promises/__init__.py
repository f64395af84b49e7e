"""Checks of what the README promises, too slow for the tests."""
