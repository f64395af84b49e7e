"""One thin script per stage; signals are heard before its imports, which take time."""

import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)  # until then at least no traceback

from ddim import signals  # noqa: E402

signals.listen()
