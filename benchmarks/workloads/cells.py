"""A cell of the table: a contender at a size, in its process, with a limit of time and memory."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import numpy as np

from harness.timing import Figure
from workloads.contenders import Contender
from workloads.problem import Workload

WORKER = Path(__file__).with_name("worker.py")
PAGE_BYTES = 4096
STATES = {"ImportError": "missing", "NativeError": "missing", "UnableError": "unable"}


class CellError(Exception):
    """The cell ended: out of time, out of memory, or with an error."""


@dataclass
class Cell:
    """A contender at a size.

    Attributes
    ----------
    state : str
        ``""`` while it can be timed; else ``missing`` (not installed), ``unable`` (does not offer
        this), ``failed``, ``limit`` (of time or memory), ``wrong``, ``unchecked``.
    why : str
        The reason.
    first_seconds : float or None
        From the function to the first result: recording, tracing and compiling included.
    peak_bytes : int or None
        The most memory on the way there, above what the process had with its data.
    figure : Figure
        Seconds a call.
    """

    contender: Contender
    workload: Workload
    size: tuple[int, ...]
    state: str = ""
    why: str = ""
    first_seconds: float | None = None
    peak_bytes: int | None = None
    figure: Figure = field(default_factory=Figure)
    process: subprocess.Popen | None = None
    folder: tempfile.TemporaryDirectory | None = None
    timeout: float = 60.0
    most_bytes: int = 8 * 2**30

    @property
    def alive(self) -> bool:
        """Whether it can be timed."""
        return not self.state and self.process is not None

    @property
    def seconds(self) -> float | None:
        """Seconds a call, or None if it was not timed."""
        return self.figure.seconds if self.figure.rounds and not self.state else None

    def start(self, cores: list[int]) -> None:
        """Run its process up to the first result."""
        self.folder = tempfile.TemporaryDirectory(prefix="fastad-workloads-")
        spec = {
            "workload": self.workload.name,
            "size": self.size,
            "module": self.contender.module,
            "way": self.contender.way,
            "results": self.folder.name,
            "cores": cores,
        }
        self.process = subprocess.Popen(
            [sys.executable, str(WORKER), json.dumps(spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            answer = self._answer()
        except CellError as error:
            self.end("limit", str(error))
            return
        if "failed" in answer:
            kind = answer["failed"].partition(":")[0]
            state = STATES.get(kind, "failed")
            self.end(state, answer["failed"])
            return
        self.first_seconds, self.peak_bytes = answer["first_seconds"], answer["peak_bytes"]

    def found(self, name: str) -> list[np.ndarray]:
        """What it computed at the ``small`` or the ``full`` size."""
        with np.load(Path(self.folder.name) / f"{name}.npz") as arrays:
            return [arrays[key] for key in arrays.files]

    def run(self, number: int) -> float | None:
        """Seconds for that many calls; None if it ended on the way."""
        try:
            self.process.stdin.write(f"{number}\n")
            self.process.stdin.flush()
            return self._answer()["seconds"]
        except (CellError, OSError) as error:
            self.end("limit", str(error))
            return None

    def _answer(self) -> dict:
        end = monotonic() + self.timeout
        while not select.select([self.process.stdout], [], [], 0.1)[0]:
            if monotonic() > end:
                raise CellError(f"not done after {self.timeout:g} s")
            if self._resident() > self.most_bytes:
                raise CellError(f"more than {self.most_bytes / 2**30:g} GiB")
        line = self.process.stdout.readline()
        if not line:
            raise CellError(f"ended by itself, status {self.process.wait()}")
        return json.loads(line)

    def _resident(self) -> int:
        try:
            text = Path(f"/proc/{self.process.pid}/statm").read_text()
        except OSError:
            return 0
        return int(text.split()[1]) * PAGE_BYTES

    def end(self, state: str = "", why: str = "") -> None:
        """End its process, and say why if it was not done."""
        self.state, self.why = state or self.state, why or self.why
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process.stdin.close()
            self.process.stdout.close()
            self.process = None
        if self.folder is not None:
            self.folder.cleanup()
            self.folder = None
