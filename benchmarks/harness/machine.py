"""Pins the process to one core and says what it ran on."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
ROOT = Path(__file__).resolve().parents[2]
ALLOWED = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


def one_thread() -> None:
    """Ask every maths library for one thread; call it before the first of them is imported."""
    threads(1)


def threads(count: int) -> None:
    """Ask every maths library of this process, or of those it starts, for so many threads."""
    for name in THREADS:
        os.environ[name] = str(count)


def pin(core: int | None = None) -> int | None:
    """Pin this process, and those it starts, to one core; None where the system cannot do it."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    allowed = sorted(os.sched_getaffinity(0))
    chosen = allowed[-1] if core is None else core
    os.sched_setaffinity(0, {chosen})
    return chosen


@contextmanager
def unpinned() -> Iterator[int]:
    """Let this thread, and those it starts, run on all cores it had at the start; how many.

    Yields 1 where the system does not say.
    """
    if not ALLOWED:
        yield 1
        return
    pinned = os.sched_getaffinity(0)
    os.sched_setaffinity(0, ALLOWED)
    try:
        yield len(ALLOWED)
    finally:
        os.sched_setaffinity(0, pinned)


def processor() -> str:
    """The processor's model name."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    names = [row.split(":", 1)[1].strip() for row in text.splitlines() if "model name" in row]
    return names[0] if names else platform.machine()


def available_bytes() -> int | None:
    """Memory that can be had without swapping; None where the system does not say."""
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        return None
    rows = dict(row.split(":", 1) for row in text.splitlines())
    return int(rows["MemAvailable"].split()[0]) * 1024


def resident_bytes() -> int:
    """Resident memory of this process now (not its peak)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def peak_bytes() -> int:
    """The most resident memory that this process had since `forget_peak`."""
    rows = Path("/proc/self/status").read_text().splitlines()
    (peak,) = (row.split()[1] for row in rows if row.startswith("VmHWM:"))
    return int(peak) * 1024


def forget_peak() -> None:
    """Let `peak_bytes` begin from what is resident now (Linux: proc(5), clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5")


def commit() -> str:
    """The short hash of the tree's commit, with ``+`` if files were changed since."""
    try:
        head = _git("rev-parse", "--short", "HEAD")
        return head + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def description(core: int | None) -> dict[str, str]:
    """What the header says: machine, core, versions, load."""
    import numpy

    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    pinned = "not pinned: no sched_setaffinity here" if core is None else f"pinned to core {core}"
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{processor()}, {os.cpu_count()} cores, {platform.system()}",
        "core": f"{pinned}, one thread each; load average {load}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "numpy": numpy.__version__,
        "commit": commit(),
        "command": " ".join(["python", "benchmarks/compare.py", *sys.argv[1:]]),
    }
