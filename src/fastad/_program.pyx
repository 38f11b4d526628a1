# cython: language_level=3, binding=False, embedsignature=False, cdivision=True
"""Traces, the passes over them, and programs: what `fastad.compile` makes of a recording and replays."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t, uint8_t
from libc.stddef cimport ptrdiff_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memset

from math import prod
from operator import index
from os import environ
from threading import get_ident

import numpy as np

cimport numpy as cnp

from fastad._core import call
from fastad.errors import UnknownPath

from fastad._core cimport *
from fastad.errors import ProgramError

cnp.import_array()

cdef list DTYPES = [np.dtype(np.float64), np.dtype(np.float32), np.dtype(np.int64), np.dtype(np.bool_)]
cdef int *NUMBERS = [cnp.NPY_FLOAT64, cnp.NPY_FLOAT32, cnp.NPY_INT64, cnp.NPY_BOOL]
cdef object ndarray = np.ndarray


PASS_NAMES = ("dead", "simplify", "reassociate", "roll", "columns", "last columns", "vectorize", "again", "writes")

cdef enum:  # in the order of their names
    DEAD
    SIMPLIFY
    REASSOCIATE
    ROLL
    COLUMNS
    LAST_COLUMNS
    VECTORIZE
    AGAIN
    WRITES

cdef enum:
    NARROWEST = 8        # scalars that are worth an array
    KEPT = 1 << 21       # bytes that are rather kept than computed again: what the second-level cache nearly holds

# ---------------------------------------------------------------------------------------------------------------------
# Traces

cdef class Trace:
    """A recording, or what a pass made of one: a tape, its inputs, its outputs and its guards.

    Attributes
    ----------
    recorder : Recorder
        Owner of the tape.
    seen : list of bytes
        What each guard's value was.
    """

    cdef readonly object recorder
    cdef readonly list seen
    cdef fad_trace trace

    @staticmethod
    def of(Recorder recorder, inputs, outputs, guards):
        """The trace of a recording. `guards` are pairs of node and bytes."""
        cdef Trace self = Trace.__new__(Trace)
        self.recorder = recorder
        self.trace.tape = recorder.tape
        self.seen = [seen for _, seen in guards]
        self.trace.inputs = self.nodes(inputs)
        self.trace.outputs = self.nodes(outputs)
        self.trace.guards = self.nodes([node for node, _ in guards])
        self.trace.input_count, self.trace.output_count = len(inputs), len(outputs)
        self.trace.guard_count = len(guards)
        recorder.check(fad_trace_mark(&self.trace), "trace")
        self.drop_constant_guards()
        return self

    cdef uint32_t *nodes(self, sequence) except NULL:
        cdef Recorder recorder = self.recorder
        cdef fad_status status = FAD_OK
        cdef size_t i, n = len(sequence)
        cdef uint32_t *result = <uint32_t *>fad_arena_alloc(self.trace.tape, &self.trace.tape.arena,
                                                            (n + 1) * sizeof(uint32_t), &status)
        recorder.check(status, "trace")
        for i in range(n):
            recorder.check_node(sequence[i])
            result[i] = sequence[i]
        return result

    cdef int drop_constant_guards(self) except -1:
        """Guards on what no input reaches never differ; of two on one node the first decides."""
        cdef size_t i, kept = 0
        cdef uint32_t node
        cdef list seen = []
        cdef set known = set()
        for i in range(self.trace.guard_count):
            node = self.trace.guards[i]
            if self.trace.tape.nodes[node].flags & FAD_IS_DYNAMIC and node not in known:
                known.add(node)
                self.trace.guards[kept] = node
                seen.append(self.seen[i])
                kept += 1
        self.trace.guard_count, self.seen = kept, seen
        return 0

    def __len__(self):
        return self.trace.tape.count

    @property
    def outputs(self):
        """Nodes."""
        return [self.trace.outputs[i] for i in range(self.trace.output_count)]

    @property
    def inputs(self):
        """Nodes."""
        return [self.trace.inputs[i] for i in range(self.trace.input_count)]

    @property
    def guards(self):
        """Nodes."""
        return [self.trace.guards[i] for i in range(self.trace.guard_count)]

    def dump(self):
        """Text form of the tape."""
        return self.recorder.dump()

    def verify(self):
        """Raise TapeError if the tape is not well formed."""
        self.recorder.verify()

    def through(self, str name, bint strict, memory=None):
        """The trace that a pass makes of this one, in what `memory` (SpareMemory) has, if it is given."""
        cdef Trace out = Trace.__new__(Trace)
        cdef Recorder recorder = Recorder()
        cdef fad_status status
        cdef int number = PASS_NAMES.index(name)
        out.recorder, out.seen = recorder, self.seen
        recorder.open()
        recorder.lend(memory)
        try:
            out.trace.tape = recorder.tape
            with nogil:
                if number == DEAD:
                    status = fad_pass_dead(&self.trace, &out.trace, strict)
                elif number == SIMPLIFY:
                    status = fad_pass_simplify(&self.trace, &out.trace, strict)
                elif number == REASSOCIATE:
                    status = fad_pass_reassociate(&self.trace, &out.trace)
                elif number == COLUMNS or number == LAST_COLUMNS:
                    status = fad_pass_columns(&self.trace, &out.trace, number == LAST_COLUMNS)
                elif number == WRITES:
                    status = fad_pass_writes(&self.trace, &out.trace, strict)
                elif number == VECTORIZE:
                    status = fad_pass_vectorize(&self.trace, &out.trace)
                elif number == AGAIN:
                    status = fad_pass_again(&self.trace, &out.trace, KEPT)
                else:
                    status = fad_pass_roll(&self.trace, &out.trace, NARROWEST, strict)
            recorder.check(status, name)
        finally:
            recorder.lend(None)
            recorder.close()
        may_be_idle = number in (COLUMNS, LAST_COLUMNS, VECTORIZE, AGAIN, WRITES)
        return self if may_be_idle and recorder.tape.count == 0 else out

    def discard(self, memory):
        """Give what large blocks it has to `memory` (SpareMemory): this trace is not used again."""
        cdef Recorder recorder = self.recorder
        recorder.lend(memory)
        recorder.reset(LARGE_BLOCK)
        recorder.lend(None)

    @property
    def has_rules(self):
        """Whether a node has a rule of its own, which may ask for values."""
        cdef size_t i
        for i in range(self.trace.tape.count):
            if self.trace.tape.nodes[i].op == FAD_CUSTOM:
                return True
        return False

    def gradient(self, size_t output, inputs, bint with_values=True):
        """The trace that gives, after all outputs of this one, the gradient of a scalar output by some inputs.

        Parameters
        ----------
        output : int
            Number of the output.
        inputs : sequence of int
            Numbers of inputs of a floating type.
        with_values : bool
            False: the gradient alone.

        Returns
        -------
        Trace
            On the same tape, which grows.
        """
        cdef Recorder recorder = self.recorder
        cdef fad_tape *tape = self.trace.tape
        cdef size_t i, n = len(inputs)
        cdef uint32_t seed = 0
        cdef uint32_t *wrt = self.nodes([self.trace.inputs[<size_t>k] for k in inputs])
        cdef uint32_t *results = self.nodes([0] * n)
        cdef uint32_t y = self.trace.outputs[output]
        recorder.open()
        try:
            recorder.check(fad_constant(tape, 1.0, &seed), "gradient")
            recorder.check(fad_record_cast(tape, seed, fad_node_dtype(tape, y), &seed), "gradient")
            recorder.check(fad_emit_reverse(tape, tape.count, 1, &y, &seed, n, wrt, results), "gradient")
            for i in range(n):
                if results[i] == FAD_NODE_NONE:
                    recorder.check(fad_record_zeros(tape, fad_node_dtype(tape, wrt[i]), fad_node_shape(tape, wrt[i]),
                                                    &results[i]), "gradient")
        finally:
            recorder.close()
        guards = list(zip(self.guards, self.seen))
        outputs = self.outputs if with_values else []
        return Trace.of(recorder, self.inputs, outputs + [results[i] for i in range(n)], guards)

    def onto(self, Recorder recorder, arrays):
        """Record what this trace does on an open recorder, with values, and with its guards where that traces.

        Parameters
        ----------
        recorder : Recorder
        arrays : sequence of Array
            In place of the inputs, of their types and shapes.

        Returns
        -------
        list of Array
            The outputs.
        """
        cdef fad_tape *tape = self.trace.tape
        cdef size_t i, k, count = tape.count
        cdef int dtype
        cdef uint32_t *map = <uint32_t *>malloc((count + 1) * sizeof(uint32_t))
        cdef uint16_t op
        cdef fad_custom *custom
        if map == NULL:
            raise MemoryError(f"no memory for {count} nodes")
        recorder.require_open()
        try:
            for i in range(self.trace.input_count):
                map[self.trace.inputs[i]] = recorder.lift(arrays[i], &dtype)
            for i in range(count):
                op = tape.nodes[i].op
                if not tape.nodes[i].flags & FAD_IS_DYNAMIC:
                    recorder.check(fad_trace_copy(recorder.tape, tape, <uint32_t>i, map, &map[i]), "trace")
                elif op == FAD_CUSTOM:
                    custom = <fad_custom *>tape.side[tape.nodes[i].aux]
                    inputs = [wrap(recorder, map[custom.nodes[k]]) for k in range(custom.count)]
                    outputs = self.again(<object>custom.rule, inputs)
                    for k in range(custom.outputs):
                        map[i + k] = (<Array>outputs[k]).node
                elif op != FAD_VARIABLE and op != FAD_OUTPUT:
                    recorder.check(fad_trace_copy(recorder.tape, tape, <uint32_t>i, map, &map[i]), "trace")
            if recorder.tracing:
                recorder.guards.extend([(map[self.trace.guards[i]], self.seen[i])
                                        for i in range(self.trace.guard_count)])
            return [wrap(recorder, map[self.trace.outputs[i]]) for i in range(self.trace.output_count)]
        finally:
            free(map)

    def again(self, rule, inputs):
        """The outputs of a rule, recorded at other inputs."""
        if getattr(rule, "forward", None) is None:
            name = getattr(rule, "__name__", type(rule).__name__)
            raise NotImplementedError(f"{name}: its rule has no forward, which fad.scan and fad.checkpoint need to compute "
                                      "its values again")
        return call(rule, inputs)

    def lowered(self, bint strict):
        """The program of this trace."""
        cdef Program program = Program.__new__(Program)
        cdef bytes seen = b"".join([value + bytes((8 - len(value) % 8) % 8) for value in self.seen])
        cdef char *bytes_seen = PyBytes_AS_STRING(seen)
        cdef fad_status status
        cdef Trace last = self if strict else self.through("again", strict)  # strict: the terms of sums are kept
        with nogil:
            status = fad_lower(&last.trace, bytes_seen, strict, &program.program)
        (<Recorder>last.recorder).check(status, "lower")
        program.prepare()
        return program


cdef str scalar_name(uint16_t op):
    if op < FAD_ELEMENTWISE_COUNT:
        return fad_ops[op].name.decode()
    return ("load", "store", "to f32", "to i64", "to bool", "mul-add", "mul-sub", "sub-mul", "zmul-add")[op - FAD_ELEMENTWISE_COUNT]


# ---------------------------------------------------------------------------------------------------------------------
# Programs

cdef enum:
    WORKSPACES = 8       # that wait for the next call of a program
    MOST_TRIED = 256     # paths: some that round otherwise may point to each other
    FEW_PLACES = 4       # of a group's operands that its text shows
    FEW = 16             # inputs and outputs whose addresses need no allocation


cdef tuple form_of(fad_program *program, fad_form *form):
    cdef uint32_t i
    return DTYPES[form.dtype], tuple([program.numbers[form.dims + i] for i in range(form.ndim)])


cdef class Program:
    """A recording made ready to be replayed: immutable, and safe to run from any number of threads.

    `Compiled.program` gives one, `load` reads one from a file. Called with its inputs it gives the
    list of its outputs. It can be copied, pickled and saved; one that runs rules written in Python
    (`fad.Function`) can not be saved.

    Attributes
    ----------
    inputs, outputs : list of tuple
        Type and shape of each.

    Examples
    --------
    >>> f = fad.compile(lambda x: np.sum(x**2))
    >>> program = f.program(np.array([1.0, 2.0, 3.0]))
    >>> program.inputs
    [(dtype('float64'), (3,))]
    >>> program([1.0, 2.0, 2.0])
    [9.0]
    """

    cdef fad_program *program
    cdef char *idle[WORKSPACES]
    cdef int idle_count
    cdef object memory               # of large results, when there has been one
    cdef readonly list inputs, outputs

    cdef int prepare(self) except -1:
        cdef size_t i
        self.program.host.context = NULL
        self.program.host.call = call_rule
        self.inputs = [form_of(self.program, &self.program.inputs[i]) for i in range(self.program.input_count)]
        self.outputs = [form_of(self.program, &self.program.outputs[i]) for i in range(self.program.output_count)]
        return 0

    def __dealloc__(self):
        while self.idle_count > 0:
            self.idle_count -= 1
            free(self.idle[self.idle_count])
        fad_program_destroy(self.program)

    # --- what it is ---

    @property
    def nodes(self):
        """Nodes of the trace it was made from."""
        return self.program.node_count

    @property
    def instructions(self):
        """Instructions over arrays."""
        return self.program.instruction_count

    @property
    def scalars(self):
        """Instructions on single numbers: those of the interpreter, where a repeated body counts once, and of groups."""
        cdef size_t i, grouped = 0
        for i in range(self.program.group_count):
            grouped += self.program.groups[i].count
        return self.program.scalar_count + self.program.repeat_count + grouped

    @property
    def groups(self):
        """Groups of numbers that one op makes, each a loop of its own."""
        return self.program.group_count

    @property
    def steps(self):
        return self.program.step_count

    @property
    def guards(self):
        return self.program.guard_count

    @property
    def gathers(self):
        """Instructions that read or write at places without a pattern, groups of scalars included."""
        cdef size_t i, count = 0
        for i in range(self.program.instruction_count):
            count += self.program.instructions[i].code >= FAD_DO_GATHER
        return count + self.program.group_count

    @property
    def working_bytes(self):
        """Bytes of one workspace."""
        return fad_program_bytes(self.program)

    @property
    def nbytes(self):
        """Bytes of one workspace and the constants."""
        return fad_program_bytes(self.program) + self.program.constant_bytes

    def text(self):
        """The program as text: a line for each step and, under it, for each instruction."""
        cdef size_t i
        cdef fad_band *band
        lines = [self.step_text(&self.program.steps[i]) for i in range(self.program.step_count)]
        for i in range(self.program.band_count):
            band = &self.program.bands[i]
            kept = f", all that is kept of arrays: {band.local_count}" if band.local_count else ""
            lines[band.first] = (
                f"{band.count} steps, {band.block} of {band.rows} rows at a time{kept}\n{lines[band.first]}"
            )
        return "".join(lines)

    cdef str place(self, fad_argument *a):
        if a.place == FAD_AT_STRIP:
            return f"s{a.offset}"
        return f"{self.base_name(a.base)}+{a.offset}" + ("" if a.place == FAD_AT_FIXED else "[i]")

    cdef str start(self, fad_argument *a):
        """An array as a step names it: without an index."""
        return f"{self.base_name(a.base)}+{a.offset}"

    cdef str scalar_text(self, fad_scalar_instruction *s):
        if s.op in (FAD_SCALAR_LOAD, FAD_SCALAR_STORE):
            far = f"{self.base_name(s.a)}+{(<uint64_t>s.b << 32) + s.c}"
            return f"w{s.to} = {far}\n" if s.op == FAD_SCALAR_LOAD else f"{far} = w{s.to}\n"
        if s.op < FAD_ELEMENTWISE_COUNT:
            count = fad_ops[s.op].arity
        else:
            count = 3 if s.op >= FAD_SCALAR_MUL_ADD else 1
        return f"w{s.to} = {scalar_name(s.op)} {', '.join([f'w{k}' for k in (s.a, s.b, s.c)[:count]])}\n"

    cdef str base_name(self, uint32_t base):
        cdef size_t inputs = self.program.input_count
        if base == FAD_IN_WORKSPACE:
            return "work"
        if base == FAD_IN_CONSTANTS:
            return "constants"
        if base - FAD_FIRST_INPUT < inputs:
            return f"in{base - FAD_FIRST_INPUT}"
        return f"out{base - FAD_FIRST_INPUT - inputs}"

    cdef str moving_text(self, fad_moving *at):
        return f"{self.base_name(at.base)}+{at.offset}" + (f"{at.stride:+d}i" if at.stride else "")

    cdef str repeated_text(self, fad_repeated *at):
        cdef int k
        cdef str name = scalar_name(at.op)
        operands = [("=" if at.chained >> k & 1 else "") + self.moving_text(&at.operands[k]) for k in range(at.count)]
        return f"{self.moving_text(&at.to)} = {name} {', '.join(operands)}\n"

    cdef list group_operands(self, fad_group *at):
        cdef size_t i, k
        return [[self.program.places[at.first + k * at.count + i] for i in range(at.count)]
                for k in range(fad_scalar_arity(at.op))]

    cdef str group_text(self, fad_group *at):
        shown = [" ".join([f"w{unit}" for unit in units[:FEW_PLACES]]) + (" ..." if at.count > FEW_PLACES else "")
                 for units in self.group_operands(at)]
        return f"w{at.to}[{at.count}] = {scalar_name(at.op)} {', '.join(shown)}\n"

    cdef str step_text(self, fad_step *step):
        cdef size_t i
        cdef str kind = ("region", "region", "scalars", "groups", "repeat", "zero", "matmul", "matmul", "cumsum", "extremum", "sum", "call", "guards")[step.kind]
        if step.kind in (FAD_STEP_REGION, FAD_STEP_REGION_BACKWARDS):
            way = " backwards" if step.kind == FAD_STEP_REGION_BACKWARDS else ""
            lines = [f"region{way} of {step.n}, {step.strips} strips of {step.strip}\n"]
            for i in range(step.first, step.first + step.count):
                lines.append("  " + self.instruction_text(&self.program.instructions[i]))
            return "".join(lines)
        if step.kind == FAD_STEP_SCALARS:
            lines = [f"scalars, {step.count} instructions\n"]
            for i in range(step.first, step.first + step.count):
                lines.append("  " + self.scalar_text(&self.program.scalars[i]))
            return "".join(lines)
        if step.kind == FAD_STEP_GROUPS:
            lines = [f"groups, {step.count}\n"]
            for i in range(step.first, step.first + step.count):
                lines.append("  " + self.group_text(&self.program.groups[i]))
            return "".join(lines)
        if step.kind == FAD_STEP_REPEAT:
            lines = [f"repeat {step.n} times {step.count} instructions\n"]
            for i in range(step.first, step.first + step.count):
                lines.append("  " + self.repeated_text(&self.program.repeats[i]))
            return "".join(lines)
        if step.kind == FAD_STEP_ZERO:
            return f"zero {step.n} bytes of {self.start(&step.arguments[0])}\n"
        if step.kind == FAD_STEP_CALL:
            return f"call of a rule with {self.program.calls[step.first].inputs} inputs\n"
        if step.kind == FAD_STEP_GUARDS:
            return self.guards_text(step)
        count = self.array_count(step)
        *operands, result = [self.start(&step.arguments[i]) for i in range(count)]
        if step.kind == FAD_STEP_MATMUL_VIEWS:
            operands = [f"{operand} dims {dims} strides {strides}"
                        for operand, (dims, strides) in zip(operands, self.array_layouts(step))]
        if step.kind == FAD_STEP_EXTREMUM:
            kind = "max" if step.first else "min"
        return f"{result} = {kind} {', '.join(operands)}\n"

    cdef str guards_text(self, fad_step *step):
        cdef size_t i
        lines = [f"guards, {step.count}\n"]
        for i in range(step.first, step.first + step.count):
            g = &self.program.guards[i]
            seen = PyBytes_FromStringAndSize(self.program.constants + g.expected, min(g.size, 16)).hex()
            lines.append(f"  {self.base_name(g.base)}+{g.offset}: {seen}{'...' if g.size > 16 else ''}\n")
        return "".join(lines)

    cdef str instruction_text(self, fad_instruction *at):
        cdef int k
        cdef str name = ("", "mul-add", "mul-sub", "sub-mul", "zmul-add", "zmul-sub", "sub-zmul", "convert", "load", "store", "add to", "gather", "put", "scatter-add to")[at.code]
        arguments = [self.place(&at.arguments[k]) for k in range(at.count)]
        if at.code == FAD_DO_OP:
            name = fad_ops[at.op].name.decode()
        if at.code in (FAD_DO_LOAD, FAD_DO_STORE, FAD_DO_ADD):
            a = &self.program.affines[at.affine]
            numbers = [self.program.numbers[a.first + k] for k in range(2 * a.ndim)]
            name += f" dims {numbers[:a.ndim]} strides {numbers[a.ndim:]}"
        if at.code <= FAD_DO_LOAD or at.code == FAD_DO_GATHER:
            return f"{arguments[-1]} = {name} {', '.join(arguments[:-1])}\n"
        return f"{name} {arguments[0]}: {', '.join(arguments[1:])}\n"

    def draw(self, path=None):
        """A drawing of the schedule: the steps in order, their ranges, and which step reads what another wrote.

        Parameters
        ----------
        path : str or path-like, optional
            File to write the SVG to.

        Returns
        -------
        str
            The SVG. `text` gives the same without arrows.

        Examples
        --------
        >>> svg = fad.compile(lambda x: np.sum(np.sin(x))).program(np.ones(9)).draw()
        >>> svg.startswith("<svg")
        True
        """
        from fastad import _schedule  # only here: nothing else draws

        svg = _schedule.draw(self.schedule(), len(self.inputs), len(self.outputs))
        if path is not None:
            with open(path, "w", encoding="utf-8") as file:
                file.write(svg)
        return svg

    def schedule(self):
        """The steps as data.

        Returns
        -------
        list of tuple
            Of each step its text, its number of elements, and the memory that it reads and that it writes, as lists of
            (base, begin, end) in bytes.
        """
        return [self.step_data(&self.program.steps[i]) for i in range(self.program.step_count)]

    cdef tuple step_data(self, fad_step *step):
        cdef size_t i
        cdef list reads = [], writes = []
        for i in range(step.first, step.first + step.count):
            if step.kind in (FAD_STEP_REGION, FAD_STEP_REGION_BACKWARDS):
                self.instruction_memory(step, &self.program.instructions[i], reads, writes)
            elif step.kind == FAD_STEP_SCALARS:
                self.scalar_memory(&self.program.scalars[i], reads, writes)
            elif step.kind == FAD_STEP_GROUPS:
                self.group_memory(&self.program.groups[i], reads, writes)
            elif step.kind == FAD_STEP_REPEAT:
                self.repeated_memory(step, &self.program.repeats[i], reads, writes)
            elif step.kind == FAD_STEP_GUARDS:
                g = &self.program.guards[i]
                reads.append((self.base_name(g.base), g.offset, g.offset + g.size))
        if step.kind == FAD_STEP_CALL:
            self.call_memory(&self.program.calls[step.first], reads, writes)
        elif step.kind == FAD_STEP_ZERO:
            writes.append(self.span(&step.arguments[0], step.n))
        elif step.kind in (FAD_STEP_MATMUL, FAD_STEP_MATMUL_VIEWS, FAD_STEP_EXTREMUM, FAD_STEP_SUM, FAD_STEP_CUMSUM):
            self.array_memory(step, reads, writes)
        wide = step.kind in (FAD_STEP_REGION, FAD_STEP_REGION_BACKWARDS)
        return self.step_text(step), step.n if wide else 0, reads, writes

    cdef tuple span(self, fad_argument *a, size):
        return self.base_name(a.base), a.offset, a.offset + size

    cdef int instruction_memory(self, fad_step *step, fad_instruction *at, list reads, list writes) except -1:
        cdef int k
        to_memory = at.code in (FAD_DO_STORE, FAD_DO_ADD) or at.code > FAD_DO_GATHER
        for k in range(at.count):
            a = &at.arguments[k]
            if a.place == FAD_AT_STRIP:
                continue
            name, begin, end = self.span(a, fad_itemsize(a.dtype) * (1 if a.place == FAD_AT_FIXED else step.n))
            if k == 0 and at.code >= FAD_DO_GATHER:
                end = begin + at.limit * fad_itemsize(a.dtype)
            elif k == 0 and FAD_DO_LOAD <= at.code <= FAD_DO_ADD:
                affine = &self.program.affines[at.affine]
                steps = [(self.program.numbers[affine.first + d] - 1) * self.program.numbers[affine.first + affine.ndim + d]
                         for d in range(affine.ndim)]
                end = begin + sum([s for s in steps if s > 0]) + fad_itemsize(a.dtype)
                begin += sum([s for s in steps if s < 0])
            written = k == 0 if to_memory else k == at.count - 1
            (writes if written else reads).append((name, begin, end))
            if written and to_memory and at.code != FAD_DO_STORE:
                reads.append((name, begin, end))
        return 0

    cdef int scalar_memory(self, fad_scalar_instruction *s, list reads, list writes) except -1:
        if s.op in (FAD_SCALAR_LOAD, FAD_SCALAR_STORE):
            at = (<uint64_t>s.b << 32) + s.c
            far, near = (self.base_name(s.a), at, at + 8), ("work", 8 * s.to, 8 * s.to + 8)
            (reads if s.op == FAD_SCALAR_LOAD else writes).append(far)
            (writes if s.op == FAD_SCALAR_LOAD else reads).append(near)
            return 0
        count = fad_ops[s.op].arity if s.op < FAD_ELEMENTWISE_COUNT else 3 if s.op >= FAD_SCALAR_MUL_ADD else 1
        inside = set([begin for _, begin, _ in writes])
        reads += [("work", 8 * k, 8 * k + 8) for k in (s.a, s.b, s.c)[:count] if 8 * k not in inside]
        writes.append(("work", 8 * s.to, 8 * s.to + 8))
        return 0

    cdef int group_memory(self, fad_group *at, list reads, list writes) except -1:
        inside = [span[1:] for span in writes]
        places = sorted({unit for units in self.group_operands(at) for unit in units})
        reads += [("work", 8 * k, 8 * k + 8) for k in places if not any([b <= 8 * k < e for b, e in inside])]
        writes.append(("work", 8 * at.to, 8 * (at.to + at.count)))
        return 0

    cdef tuple moving_span(self, fad_step *step, fad_moving *at):
        moved = at.stride * (<int64_t>step.n - 1)
        return self.base_name(at.base), at.offset + min(moved, 0), at.offset + max(moved, 0) + 8

    cdef int repeated_memory(self, fad_step *step, fad_repeated *at, list reads, list writes) except -1:
        cdef int k
        reads += [self.moving_span(step, &at.operands[k]) for k in range(at.count)]
        writes.append(self.moving_span(step, &at.to))
        return 0

    cdef int call_memory(self, fad_call *call, list reads, list writes) except -1:
        cdef uint32_t k
        for k in range(call.inputs + call.outputs):
            span = self.span(&self.program.call_arguments[call.first + k],
                             self.program.call_forms[call.first + k].bytes)
            (reads if k < call.inputs else writes).append(span)
        return 0

    cdef int array_count(self, fad_step *step):
        return 3 if step.kind in (FAD_STEP_MATMUL, FAD_STEP_MATMUL_VIEWS) else 2

    cdef list array_layouts(self, fad_step *step):
        """Dims and strides (in bytes) of the arrays of a step."""
        cdef size_t at = step.numbers
        cdef int k, count = self.array_count(step)
        cdef list layouts = []
        for k in range(count):
            ndim = 3
            if step.kind != FAD_STEP_CUMSUM:
                ndim, at = self.program.numbers[at], at + 1
            dims = [self.program.numbers[at + d] for d in range(ndim)]
            layouts.append((dims, [prod(dims[d + 1 :]) * fad_itemsize(step.dtype) for d in range(ndim)]))
            at += 0 if step.kind == FAD_STEP_CUMSUM else ndim
        for k in range(count - 1 if step.kind == FAD_STEP_MATMUL_VIEWS else 0):
            dims = layouts[k][0]
            layouts[k] = dims, [self.program.numbers[at + d] * fad_itemsize(step.dtype) for d in range(len(dims))]
            at += len(dims)
        return layouts

    cdef int array_memory(self, fad_step *step, list reads, list writes) except -1:
        cdef int k
        layouts = self.array_layouts(step)
        for k, (dims, strides) in enumerate(layouts):
            name, begin, end = self.span(&step.arguments[k], fad_itemsize(step.dtype) if prod(dims) else 0)
            for dim, stride in zip(dims, strides) if end > begin else ():
                begin, end = begin + min(stride * (dim - 1), 0), end + max(stride * (dim - 1), 0)
            (writes if k == len(layouts) - 1 else reads).append((name, begin, end))
        return 0

    def verify(self):
        """Raise ProgramError unless all that is read and written lies where it may. Always done when loading."""
        cdef fad_fault fault
        if not fad_program_verify(self.program, &fault):
            raise ProgramError(fault_text(&fault))

    # --- keeping it ---

    def to_bytes(self):
        """The program as bytes: versioned, with a checksum, the same on every machine.

        Returns
        -------
        bytes

        Raises
        ------
        ValueError
            The program calls rules that are written in Python.
        """
        cdef size_t size = 0
        cdef bytes result
        cdef size_t i
        rules = [<object>self.program.calls[i].rule for i in range(self.program.call_count)]
        if rules:
            names = sorted({getattr(rule, "__name__", type(rule).__qualname__) for rule in rules})
            raise ValueError(f"a program that runs Python code cannot be saved: it calls {', '.join(names)}")
        if fad_program_write(self.program, NULL, 0, &size) != FAD_OK:
            raise ValueError("programs cannot be saved on a big-endian machine")
        result = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>size)
        fad_program_write(self.program, PyBytes_AS_STRING(result), size, &size)
        return result

    @staticmethod
    def from_bytes(data):
        """The program that `to_bytes` made these bytes of. Every place it reads or writes is checked first.

        Parameters
        ----------
        data : bytes-like

        Returns
        -------
        Program

        Raises
        ------
        ProgramError
            The bytes are damaged, of another version, or no program that may be run.
        """
        return read_program(data)

    def save(self, path):
        """Write it to a file, from which `Program.load` reads it.

        Parameters
        ----------
        path : str or path-like

        Raises
        ------
        ValueError
            The program calls rules that are written in Python.
        OSError
            The file cannot be written.

        Examples
        --------
        >>> import os, tempfile
        >>> program = fad.compile(lambda x: x**2).program(3.0)
        >>> path = os.path.join(tempfile.mkdtemp(), "square.fad")
        >>> program.save(path)
        >>> fad.Program.load(path)(5.0)
        [25.0]
        """
        data = self.to_bytes()
        with open(path, "wb") as file:
            file.write(data)

    @staticmethod
    def load(path):
        """The program that `save` wrote. No code is run, and one that would leave its memory is refused.

        Parameters
        ----------
        path : str or path-like

        Returns
        -------
        Program

        Raises
        ------
        ProgramError
            The file is damaged, of another version, or no program that may be run: a ValueError.
        OSError
            The file cannot be read.
        """
        with open(path, "rb") as file:
            return Program.from_bytes(file.read())

    def __reduce__(self):
        return read_program, (self.to_bytes(),)

    def __copy__(self):
        return self  # immutable

    def __deepcopy__(self, memo):
        return self

    # --- running ---

    cdef char *take(self) except NULL:
        cdef size_t size
        cdef char *raw
        cdef char *aligned
        if self.idle_count > 0:
            self.idle_count -= 1
            return self.idle[self.idle_count]
        size = fad_program_bytes(self.program) + 128
        raw = <char *>calloc(size, 1)  # zeros: a program that was loaded may read what it never wrote
        if raw == NULL:
            raise MemoryError(f"no memory for a workspace of {size} bytes")
        fad_program_prepare(self.program, aligned_start(raw))
        return raw

    cdef void give_back(self, char *raw) noexcept:
        if self.idle_count == WORKSPACES:
            free(raw)
            return
        self.idle[self.idle_count] = raw
        self.idle_count += 1

    cdef object room_for(self, fad_form *form):
        """An array for an output."""
        cdef size_t i, large = 0
        if form.bytes < FAD_LARGE_RESULT:
            return cnp.PyArray_EMPTY(<int>form.ndim, <cnp.npy_intp *>&self.program.numbers[form.dims],
                                     NUMBERS[form.dtype], 0)
        if self.memory is None:
            for i in range(self.program.output_count):
                large += self.program.outputs[i].bytes >= FAD_LARGE_RESULT
            self.memory = memory_of_results(large)
        before = PyDataMem_SetHandler(self.memory)
        try:
            return cnp.PyArray_EMPTY(<int>form.ndim, <cnp.npy_intp *>&self.program.numbers[form.dims],
                                     NUMBERS[form.dtype], 0)
        finally:
            PyDataMem_SetHandler(before)

    cdef object run(self, char **inputs, list results):
        """Fill `results`; or, where a guard differs, its number and what it saw."""
        cdef char *few[FEW]
        cdef char **outputs = few
        cdef double number[FEW]
        cdef double *numbers = number
        cdef size_t i, failed = 0, n = self.program.output_count
        cdef fad_form *form
        cdef fad_status status
        cdef char *raw = NULL
        cdef Pool helpers = pool_for(self.program.together != NULL)
        cdef fad_pool *threads = threads_of(helpers)
        if n > FEW:
            outputs = <char **>malloc(n * sizeof(char *))
            numbers = <double *>malloc(n * sizeof(double))
        try:
            if outputs == NULL or numbers == NULL:
                raise MemoryError(f"no memory for {n} outputs")
            for i in range(n):
                form = &self.program.outputs[i]
                if form.ndim == 0 and form.dtype == FAD_F64:
                    outputs[i] = <char *>&numbers[i]
                    results.append(None)
                    continue
                array = self.room_for(form)
                outputs[i] = <char *>cnp.PyArray_DATA(<cnp.ndarray>array)
                results.append(array)
            raw = self.take()
            with nogil:
                status = fad_program_run(self.program, aligned_start(raw), inputs, outputs, threads, &failed)
            if status != FAD_OK:
                raise_status(status)
            if failed < self.program.guard_count:
                return failed, self.seen(raw, inputs, outputs, failed)
            for i in range(n):
                if results[i] is None:
                    results[i] = numbers[i]
            return None
        finally:
            if raw != NULL:
                self.give_back(raw)
            if outputs != few:
                free(outputs)
            if numbers != number:
                free(numbers)

    cdef bytes seen(self, char *raw, char **inputs, char **outputs, size_t guard):
        cdef fad_guard *g = &self.program.guards[guard]
        cdef char *base
        if g.base == 0:
            base = aligned_start(raw)
        elif g.base == 1:
            base = self.program.constants
        elif g.base - 2 < self.program.input_count:
            base = inputs[g.base - 2]
        else:
            base = outputs[g.base - 2 - self.program.input_count]
        return PyBytes_FromStringAndSize(base + g.offset, g.size)

    def __call__(self, *leaves):
        """Run it.

        Parameters
        ----------
        *leaves : array_like
            One for each input, of its shape; converted to its type.

        Returns
        -------
        list of float and ndarray, or tuple of int and bytes
            The outputs; or, where the inputs take another path, the number of the guard and what it saw.
        """
        cdef char *few[FEW]
        cdef char **inputs = few
        cdef size_t i, n = self.program.input_count
        cdef list arrays = [], results = []
        if len(leaves) != n:
            raise TypeError(f"expected {n} inputs, got {len(leaves)}")
        if n > FEW:
            inputs = <char **>malloc(n * sizeof(char *))
            if inputs == NULL:
                raise MemoryError(f"no memory for {n} inputs")
        try:
            for i in range(n):
                dtype, shape = self.inputs[i]
                array = np.asarray(leaves[i])
                if array.shape != shape:
                    raise ValueError(f"input {i}: expected shape {shape}, got {array.shape}")
                if array.dtype != dtype or not array.flags.c_contiguous or not array.flags.aligned:
                    if not np.can_cast(array.dtype, dtype, "same_kind"):
                        raise TypeError(f"input {i}: expected dtype {dtype}, got {array.dtype}")
                    array = np.require(array, dtype, ["C", "A"])
                arrays.append(array)
                inputs[i] = <char *>cnp.PyArray_DATA(<cnp.ndarray>array)
            other = self.run(inputs, results)
            return results if other is None else other
        finally:
            if inputs != few:
                free(inputs)


def read_program(data):
    """See Program.from_bytes. A name of the module, which pickle can name."""
    cdef bytes content = memoryview(data).tobytes()
    cdef Recorder recorder = Recorder()  # knows the allocator and the inner loops
    cdef Program program = Program.__new__(Program)
    cdef fad_fault fault
    cdef fad_status status
    cdef size_t size = len(content)
    cdef const char *start = PyBytes_AS_STRING(content)
    with nogil:
        status = fad_program_read(start, size, &recorder.tape.allocator, recorder.tape.loops, &program.program, &fault)
    if status == FAD_NO_MEMORY:
        raise MemoryError(f"no memory for a program of {size} bytes")
    if status != FAD_OK:
        raise ProgramError(fault_text(&fault))
    program.prepare()
    return program


cdef str fault_text(fad_fault *fault):
    reason = fault.reason.decode() if fault.reason != NULL else "it cannot be run"
    detail = fault.detail.decode()
    where = fault.part.decode()
    return (f"{where} {fault.at}: " if where != "program" else "program: ") + reason + (f" ({detail})" if detail else "")


cdef inline char *aligned_start(char *raw) noexcept nogil:
    return <char *>((<uint64_t>raw + 63) & ~<uint64_t>63)


cdef int raise_status(fad_status status) except -1:
    if status == FAD_IN_RULE:
        raise rule_errors.pop(get_ident())
    if status == FAD_NO_MEMORY:
        raise MemoryError("no memory to run a program")
    raise IndexError("a program read or wrote outside of an array: an index is out of bounds")


cdef dict rule_errors = {}   # by thread: of the rule that ended its run


cdef fad_status call_rule(void *context, const fad_program *program, const fad_call *call,
                          char **data) noexcept with gil:
    """Run a rule's forward on plain values."""
    cdef uint32_t k
    cdef fad_form *form
    cdef cnp.ndarray array
    try:
        inputs = []
        for k in range(call.inputs):
            form = &program.call_forms[call.first + k]
            array = cnp.PyArray_EMPTY(<int>form.ndim, <cnp.npy_intp *>&program.numbers[form.dims],
                                      NUMBERS[form.dtype], 0)
            memcpy(cnp.PyArray_DATA(array), data[k], form.bytes)
            inputs.append(array if form.ndim else array[()])
        results = (<object>call.rule).forward(*inputs)
        if not isinstance(results, tuple):
            results = (results,)
        if len(results) != <Py_ssize_t>call.outputs:
            raise ValueError(f"a rule's forward gave {len(results)} outputs where it had given {call.outputs}")
        for k in range(call.outputs):
            form = &program.call_forms[call.first + call.inputs + k]
            array = np.ascontiguousarray(results[k], DTYPES[form.dtype])
            if <uint64_t>cnp.PyArray_NBYTES(array) != form.bytes:
                raise ValueError(f"a rule's forward gave an output of shape {np.shape(results[k])}, another than when "
                                 "it was recorded")
            memcpy(data[call.inputs + k], cnp.PyArray_DATA(array), form.bytes)
        return FAD_OK
    except BaseException as error:
        rule_errors[get_ident()] = error
        return FAD_IN_RULE


# ---------------------------------------------------------------------------------------------------------------------
# The short way of a call

MISS = object()
"""What Replay gives where the long way must decide."""


cdef class Path:
    """A program, how its outputs are packed, and the decisions under which it holds.

    Attributes
    ----------
    program : Program
    pack : callable or None
        Makes the result of the list of outputs; None: the only one is the result.
    decisions : list of Decision
        Its guards' places in the tree of all paths.
    """

    cdef readonly Program program
    cdef readonly object pack
    cdef readonly list decisions

    def __init__(self, Program program, pack):
        self.program, self.pack, self.decisions = program, pack, []

    cdef object result(self, list outputs):
        return outputs[0] if self.pack is None else self.pack(outputs)

    def packed(self, list outputs):
        """The result of a run."""
        return self.result(outputs)

    def other(self, size_t guard, bytes seen):
        """A path that decides guard number `guard` by `seen`, or None."""
        decision = (<Decision>self.decisions[guard]).next.get(seen)
        return None if decision is None else (<Decision>decision).path


cdef class Decision:
    """A guard's place in the tree of paths: for each outcome the next one; `path` is some path below."""

    cdef public dict next
    cdef public object path

    def __init__(self, path):
        self.next, self.path = {}, path


cdef class Replay:
    """Calls with plain arguments of the number, types and shapes that a path was recorded for: the short way.

    Attributes
    ----------
    path : Path
        The one that held last.
    """

    cdef readonly Path path

    def __cinit__(self, Path path):
        self.path = path

    def __call__(self, tuple args):
        cdef char *few[FEW]
        cdef double numbers[FEW]
        cdef Path path = self.path
        cdef fad_program *program = path.program.program
        cdef fad_form *form
        cdef Py_ssize_t i, n = len(args)
        cdef uint32_t k
        cdef cnp.ndarray array
        cdef list results
        if n > FEW or n != <Py_ssize_t>program.input_count:
            return MISS
        for i in range(n):
            arg = args[i]
            form = &program.inputs[i]
            if type(arg) is ndarray:
                array = <cnp.ndarray>arg
                if (cnp.PyArray_TYPE(array) != NUMBERS[form.dtype] or not cnp.PyArray_ISCARRAY_RO(array)
                        or cnp.PyArray_NDIM(array) != <int>form.ndim):
                    return MISS
                for k in range(form.ndim):
                    if cnp.PyArray_DIM(array, k) != program.numbers[form.dims + k]:
                        return MISS
                few[i] = <char *>cnp.PyArray_DATA(array)
            elif type(arg) is float and form.ndim == 0 and form.dtype == FAD_F64:
                numbers[i] = arg
                few[i] = <char *>&numbers[i]
            else:
                return MISS
        for i in range(MOST_TRIED):
            results = []
            other = path.program.run(few, results)
            if other is None:
                self.path = path
                return path.result(results)
            path = path.other(other[0], other[1])
            if path is None:
                return MISS
        return MISS


include "program/results.pxi"     # memory of large results
include "program/threads.pxi"     # that share the work of a program
include "program/loop.pxi"        # programs run step after step
