"""Damaged and hostile input of every kind: it is refused in words, nothing else."""
