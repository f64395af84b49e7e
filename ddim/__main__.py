"""`python -m ddim` is the command `ddim`."""

from ddim.commands.cli import main

main()
