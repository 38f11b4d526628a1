"""Run Python with ASan first in the process: `python tools/sanitized.py -m pytest`.

Reports go to files, for pytest would swallow them with the process that they end. They
are printed at the end, and one is enough to fail.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path


def environment(log_path: str = "stderr") -> dict[str, str]:
    """What an uninstrumented Python needs so that ASan sees every heap block of the extensions."""
    compiler = os.environ.get("CC", "cc")
    # libstdc++ too: ASan looks up its exception functions at the start, before Python loads it.
    libraries = [
        subprocess.check_output([compiler, f"-print-file-name={name}"], text=True).strip()
        for name in ("libasan.so", "libstdc++.so")
    ]
    return os.environ | {
        "LD_PRELOAD": " ".join(libraries),
        "PYTHONMALLOC": "malloc",
        "ASAN_OPTIONS": f"detect_leaks=0:allocator_may_return_null=1:log_path={log_path}",
        "UBSAN_OPTIONS": f"print_stacktrace=1:log_path={log_path}",
    }


def main(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        env = environment(log_path=f"{folder}/report")
        status = subprocess.call([sys.executable, *arguments], env=env)
        texts = [path.read_text(errors="replace") for path in sorted(Path(folder).iterdir())]
    reports = [text for text in texts if "ERROR: " in text or "runtime error: " in text]
    print(*reports, sep="\n", end="")
    return status or int(bool(reports))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
