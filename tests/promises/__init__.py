"""Commands that check what the README promises, too slow for the tests: make verify, make soak."""
