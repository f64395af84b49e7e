"""The settings of `params.yaml`: sections, checks, messages and recipes."""
