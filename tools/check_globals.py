"""Refuse mutable globals in the C core: `python tools/check_globals.py build/.../libfad.a`.

Two tapes in two threads share nothing but code. Constant tables, which the loader may have to fill
with addresses once (.data.rel.ro), are no state.
"""

import re
import subprocess
import sys

WRITABLE = re.compile(r"(\*COM\*|\.data|\.bss|\.tdata|\.tbss)(?!\.rel\.ro)")
NOT_OURS = re.compile(r"__(gcov|asan|ubsan|odr)|\.")  # what instrumentation adds


def mutable_globals(library: str) -> list[str]:
    """Names of the symbols that stand in a writable section."""
    listing = subprocess.check_output(["nm", "--format=sysv", library], text=True)
    rows = [[cell.strip() for cell in line.split("|")] for line in listing.splitlines()]
    symbols = [(row[0], row[3], row[6]) for row in rows if len(row) == 7]
    return [
        name
        for name, kind, section in symbols
        if kind in ("OBJECT", "TLS") and WRITABLE.match(section) and not NOT_OURS.match(name)
    ]


if __name__ == "__main__":
    found = {library: mutable_globals(library) for library in sys.argv[1:]}
    for library, names in found.items():
        print(f"{library}: mutable globals: {', '.join(names) or 'none'}")
    sys.exit(not found or any(found.values()))
