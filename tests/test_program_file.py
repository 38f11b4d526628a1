"""Programs as bytes: saved, loaded, pickled, damaged; and what a program's arguments may be."""

import contextlib
import copy
import pickle
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy_case import arguments
from test_numpy_compiled import ROWS

import fastad as fad
from fastad import _core

GOLDEN = Path(__file__).parent / "golden" / "program"


def same_bits(ours, theirs):
    """Both results are the same, bit for bit."""
    assert len(ours) == len(theirs)
    for own, other in zip(ours, theirs, strict=True):
        assert np.asarray(own).dtype == np.asarray(other).dtype
        assert np.asarray(own).tobytes() == np.asarray(other).tobytes()


def sealed(data):
    """The bytes with their length and checksum mended: damage that only the verifier can see."""
    data = bytearray(data)
    data[16:24] = struct.pack("<Q", len(data))
    data[12:16] = struct.pack("<I", zlib.crc32(data[16:]))
    return bytes(data)


def changed(data, at, new):
    return data[:at] + new + data[at + len(new) :]


def everything(x, s):
    """A function whose program has steps and instructions of most kinds."""
    y = np.sin(x) * s + x[::-1] ** 2
    total = 0.0
    for i in range(3):
        total = total * s + np.tanh(s + i)
    if total > 10:
        return total
    return (
        np.sum(np.cumsum(y))
        + total
        + np.sum((x[:4].reshape(2, 2) @ x[2:].reshape(2, 2)) ** 2)
        + np.max(x)
    )


POINT = np.array([0.3, -1.2, 0.7, 2.0, -0.4, 1.1]), 0.5


def program_of_everything():
    return fad.value_and_grad(fad.compile(everything), argnums=(0, 1)).program(*POINT)


# --- there and back -----------------------------------------------------------------------------


def programs_of(case):
    """The programs of a row's value and of the gradient of its squares."""
    args = arguments(case)
    yield fad.compile(case.f).program(*args), args

    def squares(*xs):
        return np.sum(np.square(case.f(*xs)))

    gradient = fad.grad(fad.compile(squares), tuple(range(len(args))))
    yield gradient.program(*args), args


@pytest.mark.parametrize("case", ROWS, ids=repr)
def test_round_trip(case):
    for program, args in programs_of(case):
        program.verify()
        try:
            data = program.to_bytes()
        except ValueError as error:
            assert "call" in program.text() and "cannot be saved" in str(error)
            continue
        again = fad.Program.from_bytes(data)
        assert again.to_bytes() == data
        assert again.text() == program.text()
        assert (again.inputs, again.outputs) == (program.inputs, program.outputs)
        assert (again.nodes, again.nbytes) == (program.nodes, program.nbytes)
        same_bits(again(*args), program(*args))


def test_most_rows_can_be_saved():
    saved = total = 0
    for case in ROWS[::5]:
        for program, _ in programs_of(case):
            total += 1
            saved += "call" not in program.text()
    assert saved > 0.75 * total  # the others call LAPACK through rules


def test_save_and_load(tmp_path):
    program = program_of_everything()
    program.save(tmp_path / "program.fad")
    program.save(str(tmp_path / "again.fad"))
    for name in ("program.fad", "again.fad"):
        loaded = fad.Program.load(tmp_path / name)
        same_bits(loaded(*POINT), program(*POINT))


def test_another_process_gives_the_same_bits(tmp_path):
    program = program_of_everything()
    program.save(tmp_path / "program.fad")
    code = (
        "import sys, numpy as np, fastad as fad\n"
        "x = np.array([float.fromhex(word) for word in sys.argv[2:-1]])\n"
        "out = fad.Program.load(sys.argv[1])(x, float.fromhex(sys.argv[-1]))\n"
        "print(' '.join(np.asarray(y).tobytes().hex() for y in out))\n"
    )
    words = [float(v).hex() for v in (*POINT[0], POINT[1])]
    command = [sys.executable, "-c", code, str(tmp_path / "program.fad"), *words]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert found == [np.asarray(y).tobytes().hex() for y in program(*POINT)]


def test_a_loaded_program_still_guards():
    loaded = fad.Program.from_bytes(fad.compile(everything).program(*POINT).to_bytes())
    assert isinstance(loaded(*POINT), list)
    guard, seen = loaded(POINT[0], 100.0)
    assert guard == 0 and seen == np.float64(True).tobytes()


def test_a_loaded_program_runs_in_many_threads():
    from concurrent.futures import ThreadPoolExecutor

    program = program_of_everything()
    loaded = pickle.loads(pickle.dumps(program))
    points = [(POINT[0] * (1 + k / 50), 0.5) for k in range(50)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda p: loaded(*p), points))
    for result, point in zip(results, points, strict=True):
        same_bits(result, program(*point))


def test_golden_file():
    """A file of version 1 that an earlier fastad wrote is read, and written again, as it is."""
    data = (GOLDEN / "version-1.fad").read_bytes()
    program = fad.Program.from_bytes(data)
    assert program.to_bytes() == data
    value, by_x, by_s = program(*POINT)
    expected = fad.value_and_grad(everything, argnums=(0, 1))(*POINT)
    np.testing.assert_allclose(value, expected[0], rtol=1e-13)
    np.testing.assert_allclose(by_x, expected[1][0], rtol=1e-12)
    np.testing.assert_allclose(by_s, expected[1][1], rtol=1e-12)


def test_the_format_is_that_of_the_golden_file():
    """Whoever changes the format changes its number, and adds a golden file of it."""
    golden = sorted(path.name for path in GOLDEN.glob("*.fad"))
    programs = program_of_everything(), program_of_a_loop(), program_of_a_tangle()
    versions = [struct.unpack("<I", program.to_bytes()[8:12])[0] for program in programs]
    assert golden == [f"version-{version}.fad" for version in versions]


def recurrence(x):
    y, z = x[0], x[1]
    for k in range(2, 100):
        y = y * 0.5 + np.sin(z + x[k % 7])
        z = z - y * x[k]
    return y * z


LOOP_POINT = np.cos(np.arange(100.0))


def program_of_a_loop():
    return fad.value_and_grad(fad.compile(recurrence)).program(LOOP_POINT)


def test_golden_file_of_a_loop():
    """A file of version 2."""
    data = (GOLDEN / "version-2.fad").read_bytes()
    program = fad.Program.from_bytes(data)
    assert program.to_bytes() == data
    assert "repeat" in program.text()
    value, gradient = program(LOOP_POINT)
    expected = fad.value_and_grad(recurrence)(LOOP_POINT)
    np.testing.assert_allclose(value, expected[0], rtol=1e-12)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize(
    ("at", "new", "message"),
    [
        (152, b"\xff" * 8, "byte 152: a list is longer than the file"),
        (8, b"\1", "the lists are shorter than the file"),
    ],
)
def test_damaged_files_of_loops(at, new, message):
    assert message in refusal(sealed(changed(program_of_a_loop().to_bytes(), at, new)))


def irregular(x):
    values = list(x)
    for k in range(120):
        a, b = values[k * k % (k + 12)], values[(7 * k + 3) % (k + 12)]
        values.append((a + b, a * b, np.sin(a), a - b, np.tanh(b), 0.5 * a)[k * k * k % 17 % 6])
    total = values[12]
    for value in values[13:]:
        total = total + value
    return total


TANGLED = np.cos(np.arange(12.0))


def program_of_a_tangle():
    return fad.value_and_grad(fad.compile(irregular)).program(TANGLED)


def test_golden_file_of_a_tangle():
    """A file of version 3."""
    data = (GOLDEN / "version-3.fad").read_bytes()
    program = fad.Program.from_bytes(data)
    assert program.to_bytes() == data
    assert program.groups > 0
    value, gradient = program(TANGLED)
    expected = fad.value_and_grad(irregular)(TANGLED)
    np.testing.assert_allclose(value, expected[0], rtol=1e-12)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize(
    ("at", "new", "message"),
    [
        (160, b"\xff" * 8, "byte 160: a list is longer than the file"),
        (168, b"\xff" * 8, "byte 168: a list is longer than the file"),
        (168, b"\0" * 8, "the lists are shorter than the file"),
        (-4, b"\xff" * 4, "an operand is beyond the workspace"),
    ],
)
def test_damaged_files_of_tangles(at, new, message):
    data = program_of_a_tangle().to_bytes()
    assert message in refusal(sealed(changed(data, at % len(data), new)))


# --- copies and pickles -------------------------------------------------------------------------


def test_copies_of_a_program_are_itself():
    program = program_of_everything()
    assert copy.copy(program) is program
    assert copy.deepcopy([program])[0] is program


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_of_a_program(protocol):
    program = program_of_everything()
    same_bits(pickle.loads(pickle.dumps(program, protocol))(*POINT), program(*POINT))


def plain(x):
    return x**3


@fad.compile
def decorated(x):
    return x**2 if x > 0 else -x


renamed = fad.compile(plain, strict=True, static_argnames="n")


class Holder:
    method = fad.compile(lambda x: 2 * x)
    method.__qualname__, method.__module__ = "Holder.method", __name__


def test_pickle_of_a_decorated_function_is_its_name():
    assert pickle.loads(pickle.dumps(decorated)) is decorated
    assert pickle.loads(pickle.dumps(Holder.method)) is Holder.method
    assert copy.copy(decorated) is decorated


def test_pickle_of_a_compiled_function_keeps_its_options():
    again = pickle.loads(pickle.dumps(renamed))
    assert again is not renamed
    assert again.function is plain and again.options == renamed.options
    assert again(2.0) == 8.0
    assert copy.copy(renamed)(3.0) == 27.0


@pytest.mark.parametrize("transform", [fad.grad, fad.value_and_grad, fad.jacobian, fad.hessian])
def test_pickle_of_a_transform(transform):
    made = transform(decorated)
    again = pickle.loads(pickle.dumps(made))
    same_bits([again(2.0)], [made(2.0)])
    nested = fad.grad(fad.grad(renamed))
    assert pickle.loads(pickle.dumps(nested))(2.0) == 12.0


def test_a_function_that_pickle_cannot_name_is_said_so():
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(fad.compile(lambda x: x))


class Doubled(fad.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, g):
        return 2 * g


@pytest.mark.parametrize("keep", [lambda p: p.to_bytes(), pickle.dumps])
def test_rules_in_python_are_not_saved(keep, tmp_path):
    program = fad.compile(lambda x: Doubled.apply(x) + 1).program(np.ones(3))
    with pytest.raises(ValueError, match=r"cannot be saved: it calls .*Doubled"):
        keep(program)
    with pytest.raises(ValueError, match="Doubled"):
        program.save(tmp_path / "x.fad")
    assert list(tmp_path.iterdir()) == []
    assert copy.copy(program) is program


# --- damage -------------------------------------------------------------------------------------


def refusal(data):
    with pytest.raises(fad.ProgramError) as info:
        fad.Program.from_bytes(data)
    return str(info.value)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"", "byte 0: this is no saved program"),
        (lambda data: b"\x80\x04K\x01.", "byte 0: this is no saved program"),
        (lambda data: data.replace(b"\r\n", b"\n"), "byte 0: this is no saved program"),
        (lambda data: data[:60], "byte 60: the file is truncated"),
        (lambda data: data[:-1], "the file is truncated"),
        (lambda data: data + b"\0", "the file goes on behind its end"),
        (lambda data: changed(data, 8, b"\x07"), "(version 7, not 1 to 3)"),
        (
            lambda data: changed(data, 300, b"\xff\xff"),
            "byte 12: the checksum is not that of the file",
        ),
        (lambda data: sealed(data[:-1]), "a list is longer than the file"),
        (lambda data: sealed(data + b"\0"), "the lists are shorter than the file"),
        (
            lambda data: sealed(changed(data, 64, b"\xff" * 8)),
            "byte 64: a list is longer than the file",
        ),
        (
            lambda data: sealed(changed(data, 56, b"\xff" * 8)),
            "byte 56: the words are longer than the file",
        ),
        (
            lambda data: sealed(changed(data, 32, b"\xff" * 8)),
            "byte 24: a size is larger than any memory",
        ),
        (lambda data: sealed(changed(data, 48, b"\2")), "byte 48: there is no such option"),
        (lambda data: sealed(changed(data, 32, bytes(8))), "program: "),
        (lambda data: sealed(data.replace(b"\x03SIN", b"\x03SIM")), "is not known here (SIM)"),
    ],
)
def test_damaged_files(damage, message, tmp_path):
    data = damage(program_of_everything().to_bytes())
    assert message in refusal(data)
    (tmp_path / "damaged.fad").write_bytes(data)
    with pytest.raises(fad.ProgramError):
        fad.Program.load(tmp_path / "damaged.fad")


def test_every_cut_is_seen():
    data = program_of_everything().to_bytes()
    for size in range(0, len(data), 7):
        assert f"byte {size}: " in refusal(data[:size])


def test_every_flipped_bit_is_seen():
    data = program_of_everything().to_bytes()
    for at in range(0, len(data), 3):
        refusal(changed(data, at, bytes([data[at] ^ 1 << at % 8])))


def test_bytes_that_were_mended_run_or_are_refused(rng):
    """What csrc/program_verify.c promises; tests/c/fuzz_program.c does it a million times."""
    data, accepted = program_of_everything().to_bytes(), 0
    for _ in range(1000):
        at = int(rng.integers(24, len(data)))
        try:
            program = fad.Program.from_bytes(sealed(changed(data, at, rng.bytes(1))))
        except fad.ProgramError:
            continue
        accepted += 1
        if program.nbytes < 1e6 and [shape for _, shape in program.inputs] == [(6,), ()]:
            with contextlib.suppress(IndexError, TypeError):
                program(*POINT)
    assert accepted > 20


def test_a_program_that_writes_to_its_input_is_refused():
    """The first output's place becomes the first input's."""
    program = fad.compile(lambda x: 2 * x).program(np.ones(4))
    data = program.to_bytes()
    at = data.index(b"md" + struct.pack("<IQ", 3, 0))
    message = refusal(sealed(changed(data, at, b"md" + struct.pack("<IQ", 2, 0))))
    assert message.startswith("instruction 0: it writes to an input")


def test_loading_runs_no_pickle(tmp_path):
    class Planted:
        def __reduce__(self):
            return pytest.fail, ("code was run",)

    (tmp_path / "x.fad").write_bytes(pickle.dumps(Planted()))
    with pytest.raises(fad.ProgramError, match="no saved program"):
        fad.Program.load(tmp_path / "x.fad")


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        fad.Program.load(tmp_path / "nowhere.fad")
    with pytest.raises(OSError, match="directory"):
        program_of_everything().save(tmp_path)


@pytest.mark.parametrize("wrong", [5, "text", None, [1, 2]])
def test_what_is_no_bytes(wrong):
    with pytest.raises(TypeError):
        fad.Program.from_bytes(wrong)


def test_bytes_like_objects():
    data = program_of_everything().to_bytes()
    for view in (bytearray(data), memoryview(data), np.frombuffer(data, np.uint8)):
        assert fad.Program.from_bytes(view).to_bytes() == data


def test_more_memory_than_there_is():
    data = program_of_everything().to_bytes()
    program = fad.Program.from_bytes(sealed(changed(data, 32, struct.pack("<Q", 1 << 60))))
    with pytest.raises(MemoryError, match="no memory for a workspace of"):
        program(*POINT)


def test_a_program_is_an_error_of_value():
    assert issubclass(fad.ProgramError, ValueError)


def test_debug_builds_verify_what_they_lower(monkeypatch):
    monkeypatch.setattr(_core, "build_info", lambda: {"debug": True})
    assert fad.compile(lambda x: x**2)(3.0) == 9.0


# --- text and drawing ---------------------------------------------------------------------------


def test_text_of_scalars_and_guards():
    text = fad.compile(lambda x: x * x + 1.0 if x > 0 else x).program(2.0).text()
    assert "w2 = in0+0" in text and "guards, 1\n" in text and "out0+0 = w" in text


def test_a_drawing_shows_every_step(tmp_path):
    from xml.etree import ElementTree

    program = program_of_everything()
    svg = program.draw(tmp_path / "x.svg")
    assert (tmp_path / "x.svg").read_text(encoding="utf-8") == svg
    texts = [
        node.text for node in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
    ]
    assert {"in0", "in1", "out0", "out1", "out2", "guards, 1"} <= set(texts)
    assert sum(text.startswith("region of") for text in texts) == program.text().count("region of")


def test_lines_go_from_what_is_written_to_what_reads_it():
    from fastad._schedule import links

    chain = fad.compile(lambda x: np.sum(np.cumsum(np.sin(x)) ** 2)).program(np.ones(5))
    steps = chain.schedule()
    kinds = [text.split()[0] for text, *_ in steps]
    found = links(steps)
    sine = next(i for i, (text, *_) in enumerate(steps) if "SIN" in text)
    cumsum = next(i for i, (text, *_) in enumerate(steps) if "cumsum" in text)
    total = next(i for i, (text, *_) in enumerate(steps) if "SQUARE" in text)
    assert found[-1] == [sine] and cumsum in found[sine] and found[cumsum] == [total]
    assert total in found[kinds.index("zero")] and kinds[found[total][-1]] == "scalars,"


def test_a_drawing_of_hardly_anything():
    assert fad.compile(lambda x: 1.0).program(2.0).draw().startswith("<svg")


# --- arguments of a program ---------------------------------------------------------------------


@pytest.fixture
def two():
    """A program of a matrix and a number, and a point."""
    x = np.arange(6.0).reshape(2, 3)
    return fad.compile(lambda x, s: np.sum(x * x, axis=1) * s).program(x, 2.0), x


def test_number_of_arguments(two):
    program, x = two
    with pytest.raises(TypeError, match="expected 2 inputs, got 1"):
        program(x)
    with pytest.raises(TypeError, match="expected 2 inputs, got 3"):
        program(x, 2.0, 3.0)


@pytest.mark.parametrize("shape", [(3, 2), (6,), (2, 3, 1), ()])
def test_shape_of_an_argument(two, shape):
    with pytest.raises(ValueError, match=r"input 0: expected shape \(2, 3\), got"):
        two[0](np.ones(shape), 2.0)
    with pytest.raises(ValueError, match=r"input 1: expected shape \(\), got \(1,\)"):
        two[0](two[1], [2.0])


@pytest.mark.parametrize(
    "form",
    [
        np.asfortranarray,
        lambda x: np.repeat(x, 2, axis=1)[:, ::2],
        lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
        lambda x: x.astype(">f8"),
        lambda x: x.astype(np.float32),
        lambda x: x.astype(np.int64),
        lambda x: x.astype(np.uint8),
        lambda x: x.astype(np.float16),
        lambda x: x.tolist(),
        lambda x: np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(np.float64).reshape(2, 3),
    ],
    ids=["fortran", "strided", "reversed", ">f8", "f4", "i8", "u1", "f2", "list", "unaligned"],
)
def test_arguments_that_are_converted(two, form):
    program, x = two
    given = form(x)
    before = copy.deepcopy(given)
    same_bits(program(given, 2), program(x, 2.0))
    np.testing.assert_array_equal(given, before)


def test_read_only_arguments_are_read(two):
    program, x = two
    expected = program(x, 2.0)
    x.setflags(write=False)
    same_bits(program(x, 2.0), expected)


@pytest.mark.parametrize("wrong", [1j, "1.5", None, object()])
def test_arguments_that_are_refused(two, wrong):
    with pytest.raises(TypeError, match="input 1: expected dtype float64, got"):
        two[0](two[1], wrong)


def test_integer_inputs():
    program = fad.compile(lambda x, n: x * n).program(np.ones(3), np.arange(3))
    same_bits(program(np.ones(3), np.arange(3, dtype=np.int8)), [np.arange(3.0)])
    same_bits(program(np.ones(3), np.array([True, False, True])), [np.array([1.0, 0.0, 1.0])])
    with pytest.raises(TypeError, match="input 1: expected dtype int64, got float64"):
        program(np.ones(3), np.ones(3))


def test_float32_programs_take_float64():
    single = np.arange(3, dtype=np.float32)
    program = fad.compile(lambda x: x * x).program(single)
    same_bits(program(single.astype(float)), program(single))
    assert program(single)[0].dtype == np.float32


def test_a_recorded_value_is_no_argument(two):
    with fad.Tape() as tape, pytest.raises(TypeError):
        two[0](two[1], tape.variable(1.0))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_a_strong_product_that_is_added(dtype):
    """One instruction, saved and loaded; where its first factor is 0 it adds nothing."""

    def f(x, w):
        return np.sum(np.exp(x * w) * x)

    x = np.linspace(-1.0, 1.0, 301).astype(dtype)
    x[150], w = 0.0, np.linspace(0.1, 2.0, 301).astype(dtype)
    w[150] = -np.inf
    gradient = fad.grad(f, argnums=(0, 1))
    program = fad.compile(gradient).program(x, w)
    assert "zmul-add" in program.text()
    loaded = fad.Program.from_bytes(program.to_bytes())
    expected = gradient(x, w)
    assert np.isnan(expected[0][150])  # exp(0 * inf) is
    for run in (program, loaded):
        for own, right in zip(run(x, w), expected, strict=True):
            np.testing.assert_allclose(own, right, rtol=1e-13 if dtype == "f8" else 2e-6)
