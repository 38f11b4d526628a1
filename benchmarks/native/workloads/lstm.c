/* The loss of a recurrent network whose products are all element by element.
 * in: main[2l][4b], extra[3][b], sequence[c][b]; out: value and the gradients of main and extra.
 * lengths: l, c, b. Gates: forget, in, out, change. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FORGET, IN, OUT, CHANGE, CELL, BENT, HIDDEN, PARTS };

static double sigmoid(double x)
{
    return 1.0 / (1.0 + exp(-x));
}

/* One layer: `now` gets PARTS rows of b numbers; the cell and h of the step before come in. */
static void layer(long b, const double *restrict w, const double *restrict bias,
                  const double *restrict x, const double *restrict cell,
                  const double *restrict hidden, double *restrict now)
{
    for (long i = 0; i < b; i++) {
        double forget = sigmoid(x[i] * w[i] + bias[i]);
        double ingate = sigmoid(hidden[i] * w[b + i] + bias[b + i]);
        double outgate = sigmoid(x[i] * w[2 * b + i] + bias[2 * b + i]);
        double change = tanh(hidden[i] * w[3 * b + i] + bias[3 * b + i]);
        double following = cell[i] * forget + ingate * change, bent = tanh(following);
        now[FORGET * b + i] = forget;
        now[IN * b + i] = ingate;
        now[OUT * b + i] = outgate;
        now[CHANGE * b + i] = change;
        now[CELL * b + i] = following;
        now[BENT * b + i] = bent;
        now[HIDDEN * b + i] = outgate * bent;
    }
}

/* The loss of one character, its sign turned; y, and the sum of its exponentials and 2. */
static double scored(long b, const double *x, const double *extra, const double *target,
                     double *restrict powers, double *restrict sum)
{
    double score = 0.0, ones = 0.0;
    *sum = 2.0;
    for (long i = 0; i < b; i++) {
        double y = x[i] * extra[b + i] + extra[2 * b + i];
        powers[i] = exp(y);
        *sum += powers[i];
        score += target[i] * y;
        ones += target[i];
    }
    return score - ones * log(*sum);
}

void lstm_value(const long *lengths, const void *const *in, void *const *out)
{
    long l = lengths[0], c = lengths[1], b = lengths[2];
    const double *weights = in[0], *extra = in[1], *sequence = in[2];
    double *states = calloc((size_t)(2 * l * PARTS * b + 2 * b), sizeof *states);
    double *x = states + 2 * l * PARTS * b, *powers = x + b, total = 0.0, sum;
    for (long t = 0; t < c - 1; t++) {
        double *now = states + (t % 2) * l * PARTS * b;
        double *before = states + ((t + 1) % 2) * l * PARTS * b;
        const double *input = x;
        for (long i = 0; i < b; i++)
            x[i] = sequence[t * b + i] * extra[i];
        for (long i = 0; i < l; i++) {
            double *own = now + i * PARTS * b, *past = before + i * PARTS * b;
            layer(b, weights + 8 * i * b, weights + (8 * i + 4) * b, input, past + CELL * b,
                  past + HIDDEN * b, own);
            input = own + HIDDEN * b;
        }
        total += scored(b, input, extra, sequence + (t + 1) * b, powers, &sum);
    }
    *(double *)out[0] = -total / (double)((c - 1) * b);
    free(states);
}

/* Adjoint of `layer`. `to_x` comes in as the adjoint of its output from above and leaves as that of
 * its input; to_cell and to_hidden come in from the step after and leave for the one before. */
static void layer_swept(long b, const double *restrict w, const double *restrict now,
                        const double *restrict x, const double *restrict cell,
                        const double *restrict hidden, double *restrict to_x,
                        double *restrict to_cell, double *restrict to_hidden,
                        double *restrict to_w, double *restrict to_bias)
{
    for (long i = 0; i < b; i++) {
        double forget = now[FORGET * b + i], ingate = now[IN * b + i], outgate = now[OUT * b + i];
        double change = now[CHANGE * b + i], bent = now[BENT * b + i];
        double to_output = to_x[i] + to_hidden[i];
        double to_state = to_cell[i] + to_output * outgate * (1.0 - bent * bent);
        double a = to_state * cell[i] * forget * (1.0 - forget);
        double e = to_state * change * ingate * (1.0 - ingate);
        double o = to_output * bent * outgate * (1.0 - outgate);
        double g = to_state * ingate * (1.0 - change * change);
        to_w[i] += a * x[i];
        to_w[b + i] += e * hidden[i];
        to_w[2 * b + i] += o * x[i];
        to_w[3 * b + i] += g * hidden[i];
        to_bias[i] += a;
        to_bias[b + i] += e;
        to_bias[2 * b + i] += o;
        to_bias[3 * b + i] += g;
        to_x[i] = a * w[i] + o * w[2 * b + i];
        to_hidden[i] = e * w[b + i] + g * w[3 * b + i];
        to_cell[i] = to_state * forget;
    }
}

void lstm_gradient(const long *lengths, const void *const *in, void *const *out)
{
    long l = lengths[0], c = lengths[1], b = lengths[2], width = l * PARTS * b;
    const double *weights = in[0], *extra = in[1], *sequence = in[2];
    double *to_weights = out[1], *to_extra = out[2], total = 0.0;
    double *states = malloc((size_t)(c * width + 2 * c * b + c + (2 * l + 1) * b) * sizeof *states);
    double *inputs = states + c * width, *powers = inputs + c * b, *sums = powers + c * b;
    double *to_cells = sums + c, *to_hiddens = to_cells + l * b, *to_x = to_hiddens + l * b;
    double scale = -1.0 / (double)((c - 1) * b);
    memset(states, 0, (size_t)width * sizeof *states); /* the states before the first step */
    for (long t = 0; t < c - 1; t++) {
        double *before = states + t * width, *now = before + width, *x = inputs + t * b;
        for (long i = 0; i < b; i++)
            x[i] = sequence[t * b + i] * extra[i];
        for (long i = 0; i < l; i++) {
            double *own = now + i * PARTS * b, *past = before + i * PARTS * b;
            layer(b, weights + 8 * i * b, weights + (8 * i + 4) * b, x, past + CELL * b,
                  past + HIDDEN * b, own);
            x = own + HIDDEN * b;
        }
        total += scored(b, x, extra, sequence + (t + 1) * b, powers + t * b, sums + t);
    }
    *(double *)out[0] = scale * total;
    memset(to_weights, 0, (size_t)(8 * l * b) * sizeof *to_weights);
    memset(to_extra, 0, (size_t)(3 * b) * sizeof *to_extra);
    memset(to_cells, 0, (size_t)(2 * l * b) * sizeof *to_cells);
    for (long t = c - 2; t >= 0; t--) {
        const double *before = states + t * width, *now = before + width;
        const double *target = sequence + (t + 1) * b, *top = now + width - PARTS * b;
        double ones = 0.0;
        for (long i = 0; i < b; i++)
            ones += target[i];
        for (long i = 0; i < b; i++) {
            double to_y = scale * (target[i] - ones * powers[t * b + i] / sums[t]);
            to_extra[b + i] += to_y * top[HIDDEN * b + i];
            to_extra[2 * b + i] += to_y;
            to_x[i] = to_y * extra[b + i];
        }
        for (long i = l - 1; i >= 0; i--) {
            const double *past = before + i * PARTS * b;
            const double *x = i > 0 ? now + ((i - 1) * PARTS + HIDDEN) * b : inputs + t * b;
            layer_swept(b, weights + 8 * i * b, now + i * PARTS * b, x, past + CELL * b,
                        past + HIDDEN * b, to_x, to_cells + i * b, to_hiddens + i * b,
                        to_weights + 8 * i * b, to_weights + (8 * i + 4) * b);
        }
        for (long i = 0; i < b; i++)
            to_extra[i] += to_x[i] * sequence[t * b + i];
    }
    free(states);
}
