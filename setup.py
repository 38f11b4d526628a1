"""The compiled part: csrc/*.c once, as a static library, linked into three Cython extensions.

All else stands in pyproject.toml. Switches, from the environment:
    FASTAD_DEBUG=1                      -O1 -g, assertions, the tape verified after each recording
    FASTAD_SANITIZE=address,undefined   the named sanitizers; a report ends the process
    FASTAD_COVERAGE=1                   gcov for the C, line tracing for the Cython
    FASTAD_WERROR=1                     every warning is an error
Each combination builds in its own folder under build/: no object file serves another.
"""

import os
import sys
from glob import glob

import numpy
from setuptools import Extension, setup

SANITIZE = os.environ.get("FASTAD_SANITIZE", "")
DEBUG, COVERAGE, WERROR = (
    os.environ.get(f"FASTAD_{switch}", "0") not in ("", "0")
    for switch in ("DEBUG", "COVERAGE", "WERROR")
)
SOURCES = sorted(glob("csrc/*.c"))
HEADERS = sorted(glob("csrc/*.h") + glob("csrc/*.def"))
PARTS = {
    "_core": sorted(glob("src/fastad/core/*.pxi")),
    "_program": sorted(glob("src/fastad/program/*.pxi")),
}

# -ffp-contract=off: the same inputs give the same bits on machines with and without fma.
flags = ["-std=c11", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off"]
flags += ["-fvisibility=hidden", "-pthread"]
flags += ["-O1", "-g", "-UNDEBUG"] if DEBUG or SANITIZE or COVERAGE else ["-O3", "-g0"]
link = ["-lm", "-pthread"]
if sys.platform == "linux" and "-g0" in flags:
    link += ["-Wl,-s"]
instrument = ["--coverage"] if COVERAGE else []
if SANITIZE:
    instrument += [f"-fsanitize={SANITIZE}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
flags, link = flags + instrument, link + instrument
strict = ["-Wall", "-Wextra", "-Werror"] if WERROR else []
if os.name == "nt":
    flags, link, strict = ["/O2", "/std:c11"], [], ["/W3", "/WX"] if WERROR else []
# What Cython writes has unused parts by design; every other warning counts there too.
generated = ["-Wno-unused", "-Wno-unused-parameter", "-Wno-missing-field-initializers"]
generated += ["-Wno-cast-function-type", "-Wno-sign-compare"]

kinds = {
    "debug": DEBUG,
    "coverage": COVERAGE,
    "werror": WERROR,
    SANITIZE.replace(",", "-"): SANITIZE,
}
variant = "-".join(kind for kind, on in kinds.items() if on) or "release"
macros = [
    ("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"),
    ("FAD_BUILD_FLAGS", '"{}"'.format(" ".join(flags))),  # what `fastad info` prints
]
macros += [("FAD_DEBUG", "1")] if DEBUG else []
macros += [("FAD_SANITIZE", "1")] if SANITIZE else []
macros += [("CYTHON_TRACE_NOGIL", "1")] if COVERAGE else []

core = {"sources": SOURCES, "obj_deps": {"": HEADERS}, "include_dirs": ["csrc"]}
setup(
    libraries=[("fad", core | {"macros": macros, "cflags": flags + strict})],
    ext_modules=[
        Extension(
            f"fastad.{name}",
            [f"src/fastad/{name}.pyx"],
            depends=HEADERS + SOURCES + PARTS.get(name, []),
            include_dirs=["csrc", numpy.get_include()],
            define_macros=macros,
            extra_compile_args=flags + strict + generated * bool(strict),
            extra_link_args=link,
        )
        for name in ("_core", "_reverse", "_program", "_batch")
    ],
    options={
        "build": {"build_base": f"build/{variant or 'release'}"},
        "build_ext": {"cython_c_in_temp": True, "cython_directives": {"linetrace": COVERAGE}},
    },
)
