"""How much memory the process has in use, for tests that look for leaks."""

import ctypes
import gc
import sys

import pytest

from fastad import _core

SANITIZED = "sanitize" in _core.build_info()["flags"]

needs_memory_in_use = pytest.mark.skipif(
    not sys.platform.startswith("linux") and not SANITIZED, reason="reads /proc"
)


def memory_in_use() -> int:
    """Bytes; with AddressSanitizer, which keeps freed blocks a while, those of live blocks."""
    gc.collect()
    if SANITIZED:
        count = ctypes.CDLL(None).__sanitizer_get_current_allocated_bytes
        count.argtypes, count.restype = [], ctypes.c_size_t
        return count()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
