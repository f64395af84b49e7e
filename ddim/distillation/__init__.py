"""From a trained network to one that draws in one or two evaluations."""
