"""Many experiments, on one machine or on a cluster, each in a clone of its own."""
