"""lstm: the loss of a small recurrent network on a text, all products element by element."""

from __future__ import annotations

import numpy

from workloads.problem import Data, Workload, seeded

BITS = 14
TEXT = (
    "Every number that this program computes is remembered with the numbers it was made from, so "
    "that the slope of the last one can be carried back to the first. "
)


def objective_in(np):
    """The function with NumPy, or what stands in for it."""

    def sigmoid(x):
        return 1.0 / (1.0 + np.exp(-x))

    def lstm(main, extra, sequence, state=None):
        layers, bits = len(main) // 2, sequence.shape[1]
        weights = [main[2 * i].reshape(4, bits) for i in range(layers)]
        biases = [main[2 * i + 1].reshape(4, bits) for i in range(layers)]
        state = np.zeros((2 * layers, bits)) if state is None else state
        hidden, cells = list(state[::2]), list(state[1::2])
        loss = 0.0
        for t in range(len(sequence) - 1):
            x = sequence[t] * extra[0]
            for i in range(layers):
                w, b, h = weights[i], biases[i], hidden[i]
                forget = sigmoid(x * w[0] + b[0])
                ingate = sigmoid(h * w[1] + b[1])
                outgate = sigmoid(x * w[2] + b[2])
                change = np.tanh(h * w[3] + b[3])
                cells[i] = cells[i] * forget + ingate * change
                x = hidden[i] = outgate * np.tanh(cells[i])
            y = x * extra[1] + extra[2]
            loss = loss + np.sum(sequence[t + 1] * (y - np.log(2.0 + np.sum(np.exp(y)))))
        return -loss / ((len(sequence) - 1) * bits)

    return lstm


def data(size):
    """Uniform parameters; the bits of the text above, repeated."""
    layers, characters = size
    generator = seeded()
    main, extra = generator.rand(2 * layers, 4 * BITS), generator.rand(3, BITS)
    codes = [ord(TEXT[i % len(TEXT)]) for i in range(characters)]
    sequence = numpy.array([[code >> bit & 1 for bit in range(BITS)] for code in codes], float)
    return Data((main, extra), (sequence,), lengths=(layers, characters, BITS))


WORKLOAD = Workload(
    "lstm",
    "loss of a recurrent network of l layers on c characters of 14 bits",
    sizes=((2, 1024), (4, 4096)),
    small=(2, 6),
    data=data,
    objective=objective_in(numpy),
)
