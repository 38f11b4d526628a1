"""The command line: ``fastad grad "x * sin(y)" x=1 y=2`` and ``fastad info``.

Results go to standard output, an error to standard error in one line. Exit status 0: done;
1: it could not be done (a missing library, a file that cannot be written); 2: it was asked for
wrongly (a formula that is not understood, a value that is missing).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import fastad
from fastad._expression import Expression, ExpressionError, parse_value

HIGHEST_ORDER = 8
_DEVELOPMENT = {"test", "check", "docs", "bench", "wheel", "peers"}


class UsageError(Exception):
    """Something was asked for in a way that cannot be answered."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments after the program's name; by default those of the process.

    Returns
    -------
    int
        Exit status.

    Examples
    --------
    >>> from fastad.cli import main
    >>> main(["grad", "x * y", "x=2", "y=3"])  # doctest: +ELLIPSIS
    f(x, y) = x * y
    x = 2.0
    y = 3.0
    <BLANKLINE>
    value  6.0
    df/dx  3.0
    df/dy  2.0
    ...
    0
    """
    arguments = _parser().parse_args(_protected(sys.argv[1:] if argv is None else argv))
    try:
        arguments.run(arguments)
        sys.stdout.flush()
        return 0
    except (UsageError, ExpressionError) as error:
        return _fail(arguments.command, error, 2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ImportError, OSError, MemoryError, fastad.TapeError) as error:
        return _fail(arguments.command, error, 1)


def _fail(command: str, error: BaseException, status: int) -> int:
    reason = " ".join(str(error).split()) or type(error).__name__
    print(f"fastad {command}: {reason}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fastad", description="Derivatives of formulas.")
    commands = parser.add_subparsers(dest="command", required=True)
    grad = commands.add_parser(
        "grad",
        help="value, derivatives and computation graph of a formula",
        description="Value, derivatives and computation graph of a formula, which is parsed and "
        "never run as code.",
        epilog='example: fastad grad "sqrt(x**2 + exp(x**2)) + cos(x**2 + exp(x**2))" x=0.7',
    )
    grad.add_argument("formula", help="for example 'x * sin(y)' or 'sum(x**2)'")
    grad.add_argument("values", nargs="*", metavar="name=value", help="x=0.7 or x=[1,2,3]")
    grad.add_argument("--order", type=int, default=1, help="highest derivative (default 1)")
    grad.add_argument("--graph", metavar="FILE", help="draw the graph: .svg, .dot or .txt")
    grad.add_argument("--json", action="store_true", help="print one JSON object")
    grad.set_defaults(run=_grad)
    info = commands.add_parser("info", help="version, build, optional packages")
    info.add_argument("--json", action="store_true", help="print one JSON object")
    info.set_defaults(run=_info)
    return parser


def _protected(argv: Sequence[str]) -> list[str]:
    """A formula may begin with a minus sign: a space before it tells it from an option."""
    if "--" in argv:
        return list(argv)
    return [
        f" {word}" if word.startswith("-") and word[1:2] not in ("-", "h", "") else word
        for word in argv
    ]


# --- fastad grad ---------------------------------------------------------------------------------


def _grad(arguments: argparse.Namespace) -> None:
    given = dict(_value(word) for word in arguments.values)
    f = Expression(arguments.formula, given)
    values = _matched(f, given)
    report = _derivatives(f, values, arguments.order)
    graph = _graph(f, values)
    if arguments.graph:
        _draw(graph, arguments.graph)
    if arguments.json:
        nodes = [row.as_dict() for row in graph.explain()]
        print(json.dumps(_jsonable({**report, "nodes": nodes}), allow_nan=False))
    else:
        print(_text(report, graph))


def _value(word: str) -> tuple[str, Any]:
    name, equals, text = word.partition("=")
    if not (equals and name.strip().isidentifier()):
        raise UsageError(f"expected name=value, such as x=0.7, not {word!r}")
    try:
        return name.strip(), parse_value(text)
    except ExpressionError as error:
        raise UsageError(f"the value of {name.strip()}: {error}") from None


def _matched(f: Expression, given: Mapping[str, Any]) -> dict[str, Any]:
    """The values in the order of the formula's names."""
    missing = [name for name in f.names if name not in given]
    unused = [name for name in given if name not in f.names]
    if missing:
        raise UsageError(f"no value for {', '.join(missing)}: add {missing[0]}=…")
    if unused:
        raise UsageError(f"{', '.join(unused)} is not in the formula {f.text}")
    if not given:
        raise UsageError("a derivative needs a name to differentiate by, such as x with x=0.7")
    return {name: given[name] for name in f.names}


def _derivatives(f: Expression, values: Mapping[str, Any], order: int) -> dict[str, Any]:
    """Value, gradient, and what `order` asks for besides."""
    if not 1 <= order <= HIGHEST_ORDER:
        raise UsageError(f"--order goes from 1 to {HIGHEST_ORDER}, not {order}")
    names, points = tuple(values), tuple(values.values())
    shape = np.shape(f(*points))
    if shape:
        raise UsageError(f"the formula has a value of shape {shape}: sum(…) would make it a number")
    everything = tuple(range(len(names)))
    value, gradient = fastad.value_and_grad(f, argnums=everything)(*points)
    report = {
        "formula": f.text,
        "inputs": dict(values),
        "value": value,
        "gradient": dict(zip(names, gradient, strict=True)),
    }
    if order > 1:
        report.update(_higher(f, names, points, order))
    return report


def _higher(
    f: Expression, names: Sequence[str], points: Sequence[Any], order: int
) -> dict[str, Any]:
    if len(names) == 1 and np.ndim(points[0]) == 0:
        derivatives: list[Any] = []
        g: Callable[..., Any] = f
        for _ in range(order):
            g = fastad.grad(g)
            derivatives.append(g(*points))
        return {"derivatives": derivatives}
    if order > 2:
        raise UsageError("--order above 2 needs a formula of one number")
    return {"hessian": {a: _hessian_row(f, names, points, i) for i, a in enumerate(names)}}


def _hessian_row(
    f: Expression, names: Sequence[str], points: Sequence[Any], i: int
) -> dict[str, Any]:
    """Derivatives of the gradient by input `i`, one block for each input."""
    gradient = fastad.grad(f, argnums=i)
    return {b: fastad.jacobian(gradient, argnums=j)(*points) for j, b in enumerate(names)}


def _graph(f: Expression, values: Mapping[str, Any]) -> Any:
    graph = fastad.graph.ComputationalGraph.record(f, *values.values(), title=_head(f.text, values))
    graph.backward()
    return graph


def _draw(graph: Any, file: str) -> None:
    if Path(file).suffix not in (".svg", ".dot", ".txt"):
        raise UsageError(f"--graph {file}: a drawing ends in .svg, .dot or .txt")
    try:
        graph.draw(file)
    except ValueError as error:  # too large to be read
        raise UsageError(f"--graph {file}: {error}") from None


def _head(formula: str, names: Sequence[str] | Mapping[str, Any]) -> str:
    return f"f({', '.join(names)}) = {formula}"


def _text(report: Mapping[str, Any], graph: Any) -> str:
    inputs = report["inputs"]
    lines = [_head(report["formula"], inputs)]
    lines += [f"{name} = {_shown(value)}" for name, value in inputs.items()]
    results = [("value", report["value"])]
    results += [(f"df/d{name}", value) for name, value in report["gradient"].items()]
    results += _higher_lines(report)
    width = max(len(head) for head, _ in results)
    lines += ["", *(f"{head:{width}}  {_shown(value, width + 2)}" for head, value in results)]
    return "\n".join([*lines, "", str(graph.explain())])


def _higher_lines(report: Mapping[str, Any]) -> list[tuple[str, Any]]:
    name = next(iter(report["inputs"]))
    lines = [
        (f"d{n}f/d{name}{n}", value)
        for n, value in enumerate(report.get("derivatives", []), start=1)
        if n > 1
    ]
    for a, row in report.get("hessian", {}).items():
        lines += [(f"d2f/d{a}d{b}", block) for b, block in row.items()]
    return lines


def _shown(value: Any, indent: int = 0) -> str:
    """All digits of a number, an array as NumPy shows it."""
    if np.ndim(value) == 0:
        return repr(float(value))
    return np.array2string(np.asarray(value), prefix=" " * indent)


def _jsonable(value: Any) -> Any:
    """What JSON can hold: arrays as lists, infinities and NaN as text."""
    if isinstance(value, Mapping):
        return {key: _jsonable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(each) for each in value]
    if isinstance(value, np.ndarray | np.generic):
        return _jsonable(value.tolist())
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return value


# --- fastad info ---------------------------------------------------------------------------------


def _info(arguments: argparse.Namespace) -> None:
    facts = {
        "fastad": fastad.__version__,
        "python": platform.python_version(),
        **fastad._core.build_info(),
        "optional packages": _optional_packages(),
    }
    if arguments.json:
        print(json.dumps(facts))
        return
    for name, fact in facts.items():
        if isinstance(fact, dict):
            fact = ", ".join(f"{k} {v or 'missing'}" for k, v in fact.items()) or "unknown"
        print(f"{name.replace('_', ' '):18}  {fact}")


def _optional_packages() -> dict[str, str | None]:
    """Version of each package that an extra of fastad names, None where it is not installed."""
    try:
        requirements = metadata.requires("fastad") or []
    except metadata.PackageNotFoundError:
        return {}
    found = {}
    for requirement in requirements:
        package, _, condition = requirement.partition(";")
        extra = condition.partition("extra ==")[2].strip(" \"'()")
        name = package.split("[")[0].rstrip("<>=!~.0123456789 ")
        if extra and extra not in _DEVELOPMENT and name != "fastad":
            found[name] = _version(name)
    return found


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
