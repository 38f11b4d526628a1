"""A line on the terminal while something takes long. Knows nothing of what does."""

import contextlib
import sys
import threading
import time

__all__ = ["progress"]

PATIENCE = 2.0  # seconds before anything is shown
REFRESH = 0.2


@contextlib.contextmanager
def progress(what, count, unit):
    """Show, on a terminal, how far `count()` has come in the `with` block, if that takes long.

    Examples
    --------
    >>> with progress("energy: recording", lambda: 12, "nodes"):
    ...     result = 1 + 1  # quick: nothing is shown
    """
    if not sys.stderr.isatty():
        yield
        return
    done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(what, count, unit, done), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _watch(what, count, unit, done):
    start = time.perf_counter()
    if done.wait(PATIENCE):
        return
    width = 0
    while True:
        seconds = time.perf_counter() - start
        line = f"{what}: {count():,} {unit}, {seconds:.1f} s"
        width = max(width, len(line))
        print("\r" + line.ljust(width), end="", file=sys.stderr, flush=True)
        if done.wait(REFRESH):
            break
    print("\r" + " " * width + "\r", end="", file=sys.stderr, flush=True)
