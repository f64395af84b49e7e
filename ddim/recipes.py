"""`python -m ddim.recipes` lists the recipes and prints their settings."""

from ddim.errors import one_plain_message
from ddim.settings.recipes import main

if __name__ == "__main__":
    with one_plain_message():
        main()
