"""What `make demo` shows: a gradient and its graph, all partials of a gate circuit, a check.

The picture goes to build/demo.svg, or to the file named on the command line.
"""

import sys
import time
from pathlib import Path

import numpy as np

import fastad as fad
from fastad.graph import ComputationalGraph

DRAWING = Path(__file__).parent.parent / "build" / "demo.svg"


def lecture(x):
    """√(x² + exp x²) + cos(x² + exp x²), in the steps of the lecture."""
    a = x**2
    b = np.exp(a)
    c = a + b
    return np.sqrt(c) + np.cos(c)


def gates(x, y, z):
    return (x + y) * z


def rosenbrock(x):
    """The chained Rosenbrock function, written with slices as in any NumPy program."""
    return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def heading(text):
    print(f"\n{text}\n{'-' * len(text)}\n")


def timed(f, *args):
    """Result and seconds of the best of five calls."""
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        result = f(*args)
        seconds.append(time.perf_counter() - start)
    return result, min(seconds)


def relative(difference, to):
    return abs(difference) / max(abs(to), 1e-300)


# --- the three parts -----------------------------------------------------------------------------


def show_gradient(file):
    heading("f(x) = √(x² + exp x²) + cos(x² + exp x²) at x = 0.7")
    x = 0.7
    (value, gradient), seconds = timed(fad.value_and_grad(lecture), x)
    h = 1e-6
    difference = (lecture(x + h) - lecture(x - h)) / (2 * h)
    second = fad.grad(fad.grad(lecture))(x)
    print(f"value              f(x)   = {value:.12f}")
    print(f"derivative         f'(x)  = {gradient:.12f}")
    print(
        f"by differences             = {difference:.12f}    (f(x + h) - f(x - h)) / 2h, h = {h:g}"
    )
    print(f"second derivative  f''(x) = {second:.12f}")
    print(f"time of value and derivative {1e6 * seconds:.0f} µs")
    graph = ComputationalGraph.record(lecture, x, title="f(x) = √(x² + exp x²) + cos(x² + exp x²)")
    graph.backward()
    print("\nIts graph; above an edge the value, below it the gradient:\n")
    print(graph.to_text())
    file.parent.mkdir(parents=True, exist_ok=True)
    graph.draw(file)
    print(f"\nThe same as a picture: {file}")
    return relative(gradient - difference, gradient) < 1e-6


def show_partials():
    heading("f(x, y, z) = (x + y) z at x = -2, y = 5, z = -4: all partials")
    with fad.Tape() as tape:
        x = tape.variable(-2.0, name="x")
        y = tape.variable(5.0, name="y")
        z = tape.variable(-4.0, name="z")
        f = gates(x, y, z)
    partials = tape.gradients(f)
    print("node  operation    value  df/d(node)")
    for node in tape.nodes():
        operands = " ".join(f"%{parent}" for parent in node.parents)
        operation = f"{node.op} {operands}" if operands else node.name
        print(f"%{node.index:<4} {operation:<10} {node.value:>7g} {partials.at(node.index):>11g}")
    return [partials.at(node.index) for node in tape.nodes()] == [-4.0, -4.0, 3.0, -4.0, 1.0]


def show_check(n=10_000):
    heading(f"Chained Rosenbrock function of {n:,} variables, in NumPy")
    rng = np.random.default_rng(1)
    x = rng.uniform(-1.0, 1.0, n)
    value, plain = timed(rosenbrock, x)
    (_, gradient), both = timed(fad.value_and_grad(rosenbrock), x)
    print(f"value {value:.6g}, largest slope {np.max(np.abs(gradient)):.6g}")
    print(f"NumPy's value alone {1e6 * plain:.0f} µs, value and gradient {1e6 * both:.0f} µs\n")
    print("checked by central differences    gradient         difference       relative error")
    errors = []
    for name, direction in directions(n, rng):
        slope, difference = gradient @ direction, central(rosenbrock, x, direction)
        errors.append(relative(slope - difference, slope))
        print(f"{name:<33} {slope:< 16.9g} {difference:< 16.9g} {errors[-1]:.1e}")
    return max(errors) < 1e-5


def directions(n, rng):
    """Some directions: random ones of length one, then coordinate axes."""
    for k in range(3):
        direction = rng.standard_normal(n)
        yield f"along random direction {k + 1}", direction / np.linalg.norm(direction)
    for i in (0, n // 2, n - 1):
        yield f"along coordinate {i}", np.eye(1, n, i)[0]


def central(f, x, direction):
    """Slope of `f` along a direction, from values alone."""
    h = 1e-5
    return (f(x + h * direction) - f(x - h * direction)) / (2 * h)


def main():
    start = time.perf_counter()
    sys.stdout.reconfigure(errors="replace")  # a terminal without box-drawing characters
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else DRAWING
    good = [show_gradient(file), show_partials(), show_check()]
    seconds = time.perf_counter() - start
    verdict = "all three agree" if all(good) else "SOMETHING DOES NOT AGREE"
    print(f"\nfastad {fad.__version__}: {verdict}; the whole demonstration took {seconds:.2f} s.")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
