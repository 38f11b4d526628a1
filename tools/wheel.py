"""Build dist/: the sdist, and from it a wheel for every supported Python at hand, each tried out.

A wheel counts only if it is small and gives a gradient in a fresh environment without a compiler.
"""

import glob
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SUPPORTED = ("3.11", "3.12", "3.13")
LIMIT = 3_000_000  # bytes
ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"


def run(*command: object, **options: object) -> None:
    subprocess.run([str(part) for part in command], check=True, **options)  # type: ignore[call-overload]


def pythons() -> dict[str, str]:
    """Version -> interpreter: from pyenv, else from PATH, and at least the one that runs this."""
    found = {"{}.{}".format(*sys.version_info): sys.executable}
    for version in SUPPORTED:
        candidates = [shutil.which(f"python{version}")]
        if shutil.which("pyenv"):
            root = subprocess.check_output(["pyenv", "root"], text=True).strip()
            candidates = sorted(glob.glob(f"{root}/versions/{version}.*/bin/python"))[-1:]
        for candidate in filter(None, candidates):
            found.setdefault(version, candidate)
    return {version: found[version] for version in SUPPORTED if version in found}


def repair(wheel: Path) -> Path:
    """The wheel as it is published: on Linux, tagged with the oldest glibc that it runs on."""
    if sys.platform == "linux":
        run(sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", DIST, wheel)
    else:
        shutil.copy(wheel, DIST)
    python_tag = wheel.name.split("-")[2]
    return next(DIST.glob(f"fastad-*-{python_tag}-*.whl"))


def smoke(python: str, wheel: Path, folder: Path) -> None:
    """Install in a fresh environment whose PATH holds no compiler, and take a gradient."""
    run(python, "-m", "venv", folder)
    bin_folder = folder / ("Scripts" if os.name == "nt" else "bin")
    env = {key: value for key, value in os.environ.items() if key not in ("CC", "PYTHONPATH")}
    env["PATH"] = str(bin_folder)
    assert shutil.which("cc", path=env["PATH"]) is None
    run(bin_folder / "python", "-m", "pip", "install", "-q", wheel, env=env, cwd=folder)
    run(bin_folder / "python", ROOT / "tools" / "smoke.py", env=env, cwd=folder)
    run(bin_folder / "fastad", "info", env=env, cwd=folder)


def main() -> None:
    # The tools that auditwheel calls stand beside this Python.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    shutil.rmtree(DIST, ignore_errors=True)
    run(sys.executable, "-m", "build", "--sdist", "--outdir", DIST, ROOT)
    (sdist,) = DIST.glob("fastad-*.tar.gz")
    for version, python in pythons().items():
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            run(python, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, sdist)
            wheel = repair(next(folder.glob("*.whl")))
            smoke(python, wheel, folder / "fresh")
        size = wheel.stat().st_size
        print(f"Python {version}: {wheel.name}, {size / 1e6:.2f} MB")
        if size > LIMIT:
            sys.exit(f"{wheel.name} is larger than {LIMIT / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
