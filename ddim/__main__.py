"""`python -m ddim` is the command `ddim`."""

from ddim.cli import main

main()
