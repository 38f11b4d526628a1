"""Prove that the sanitizers would speak: plant bugs and expect each to be reported.

Run by `make asan` before the suite, so that a green suite means more than a silent tool.
"""

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from sanitized import environment

FLAGS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1"]
PLANTED = {
    "heap-buffer-overflow": "char *volatile p = malloc(8); return p[7 + argc];",
    "signed integer overflow": "return 2147483647 + argc;",
    "detected memory leaks": "return malloc(8 + (size_t)argc) == 0;",
}
FROM_PYTHON = """
import ctypes
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
ctypes.memset(libc.malloc(8), 0, 9)
"""


def report_of(command: list[str], env: dict[str, str] | None = None) -> str:
    run = subprocess.run(command, env=env, capture_output=True, text=True)
    return run.stderr if run.returncode else "(ended without an error)"


def expect(wanted: str, report: str, where: str) -> None:
    if wanted not in report:
        sys.exit(f"the sanitizer missed a planted bug {where}: no {wanted!r} in\n{report}")
    print(f"caught {where}: {wanted}")


def check_c(folder: Path) -> None:
    for wanted, body in PLANTED.items():
        source, program = folder / "planted.c", folder / "planted"
        source.write_text(f"#include <stdlib.h>\nint main(int argc, char **argv) {{ {body} }}\n")
        subprocess.check_call([os.environ.get("CC", "cc"), *FLAGS, str(source), "-o", str(program)])
        expect(wanted, report_of([str(program)]), "in C")


def check_extensions() -> None:
    spec = importlib.util.find_spec("fastad")
    assert spec is not None and spec.origin is not None, "fastad is not installed"
    for name in ("_core", "_reverse"):
        (binary,) = Path(spec.origin).parent.glob(f"{name}.*.so")
        for symbol in (b"__asan_report_load", b"__ubsan_handle"):
            assert symbol in binary.read_bytes(), f"{binary.name} lacks {symbol.decode()}"
        print(f"instrumented: {binary.name}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        check_c(Path(folder))
    report = report_of([sys.executable, "-c", FROM_PYTHON], environment())
    expect("heap-buffer-overflow", report, "inside Python")
    check_extensions()
