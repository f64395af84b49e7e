"""The command `ddim`: one module per command."""
