"""Run Python with the sanitizer's library first in the process: `python tools/sanitized.py -m pytest`."""

import os
import subprocess
import sys


def environment() -> dict[str, str]:
    """What an uninstrumented Python needs so that ASan sees every heap block of the extensions."""
    compiler = os.environ.get("CC", "cc")
    # libstdc++ too: ASan looks up its exception functions when it starts, and Python does not link it.
    libraries = [
        subprocess.check_output([compiler, f"-print-file-name={name}"], text=True).strip()
        for name in ("libasan.so", "libstdc++.so")
    ]
    return os.environ | {
        "LD_PRELOAD": " ".join(libraries),
        "PYTHONMALLOC": "malloc",
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1:allocator_may_return_null=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }


if __name__ == "__main__":
    os.execve(sys.executable, [sys.executable, *sys.argv[1:]], environment())
