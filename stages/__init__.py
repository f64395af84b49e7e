"""One thin script per stage; signals are heard before its imports, which take time."""

from ddim import stopping

stopping.listen()
