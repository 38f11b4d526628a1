"""The lecture on backpropagation, replayed: python examples/lecture.py [folder for the pictures]

1. a topological sort with its call stack; 2. f(x, y, z) = (x + y) z by hand, gate by gate;
3. f(x) = √(x² + exp x²) + cos(x² + exp x²), recorded from plain NumPy code; 4. a network of
three neurons; 5. the multiply gate with a forward and a backward of its own.
"""

import sys
from pathlib import Path

import numpy as np

import fastad as fad
from fastad.graph import ComputationalGraph, topological_sort


def sorted_by_depth_first_search():
    edges = [("H", "J"), ("H", "I"), ("J", "M"), ("J", "L"), ("I", "L")]
    order, steps = topological_sort(edges, start="H", trace=True)
    print(f"{steps}\n\ntopological ordering: {' '.join(order)}")


def product_of_sum():
    graph = ComputationalGraph("f(x, y, z) = (x + y) z")
    x, y, z = (graph.input(name) for name in "xyz")
    graph.mul(graph.add(x, y, name="q"), z, name="f")
    graph.forward({"x": -2, "y": 5, "z": -4})
    graph.backward()
    return graph


def lecture_function(x):
    a = x**2
    c = a + np.exp(a)
    return np.sqrt(c) + np.cos(c)


def network(x1, x2, u1, u2, b1, v1, v2, b2, w1, w2, b3):
    h1 = np.tanh(u1 * x1 + u2 * x2 + b1)
    h2 = np.tanh(v1 * x1 + v2 * x2 + b2)
    return np.tanh(w1 * h1 + w2 * h2 + b3)


def recorded(f, *args, title):
    graph = ComputationalGraph.record(f, *args, title=title)
    graph.backward()
    return graph


class Multiply(fad.Function):
    """The lecture's gate object, as one would write it for PyTorch."""

    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return x * y

    @staticmethod
    def backward(ctx, grad_z):
        x, y = ctx.saved_tensors
        return y * grad_z, x * grad_z  # local gradient times upstream gradient


def main(folder=None):
    sorted_by_depth_first_search()
    graphs = {
        "product_of_sum": product_of_sum(),
        "lecture": recorded(
            lecture_function, 0.7, title="f(x) = √(x² + exp x²) + cos(x² + exp x²)"
        ),
    }
    for graph in graphs.values():
        print(f"\n{graph.to_text()}\n{graph.explain()}")
    weights = 0.6, -0.4, 0.1, -0.3, 0.8, 0.2, 1.1, -0.7, 0.05
    graphs["network"] = recorded(
        network, 1.0, 2.0, *weights, title="two inputs, two hidden neurons, one output"
    )
    for name, graph in graphs.items() if folder else ():
        graph.draw(Path(folder) / f"{name}.svg")
    gradients = fad.grad(Multiply.apply, argnums=(0, 1))(3.0, 4.0)
    print("\ngradients of the hand-written Multiply at (3, 4):", *gradients)


if __name__ == "__main__":
    main(*sys.argv[1:])
