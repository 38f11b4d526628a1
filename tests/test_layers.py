"""Who may use whom: data flows one way, and nothing knows what is above it (docs/architecture.md).

A file may use what its line names, and nothing else; a file without a line is a fault. Names with a
slash are folders of fastad, whose files may use one another; numpy, optree ... are other packages.
Imports inside functions count, imports for type checkers alone do not.
"""

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

C = """
ops.h:     ops.def structural.def
scalar.h:  ops.def ops.h
ops.c:     ops.def structural.def ops.h scalar.h
pattern.c:  ops.def ops.h
tape.h:    ops.h
tape.c:    tape.h try.h
array.h:   tape.h
array.c:   array.h
extrema.c: array.h
products.c: array.h prefetch.h
loops.c:   ops.def array.h scalar.h
try.h:     tape.h
record.h:  tape.h
update.h:  tape.h
record.c:  record.h array.h scalar.h try.h
update.c:  update.h array.h record.h try.h
sweep.h:   tape.h
sweep.c:   sweep.h array.h try.h
prefetch.h:
reading.h: ops.def
strips.c:  reading.h sweep.h array.h prefetch.h
scalars.c: ops.def structural.def sweep.h scalar.h
emit.h:    tape.h
emit.c:    reading.h emit.h record.h update.h try.h
batch.h:   tape.h
batch.c:   batch.h record.h update.h try.h
trace.h:   tape.h
trace.c:   trace.h array.h record.h update.h try.h
pass.h:    trace.h
pass_dead.c:     pass.h try.h
pass_common.c:   pass.h try.h
pass_fold.c:     pass.h try.h
pass_sums.c:     pass.h record.h try.h
pass_products.c: pass.h record.h try.h
pass_choices.c:  pass.h try.h
pass_shapes.c:   pass.h record.h try.h
pass_views.c:    pass.h record.h update.h try.h
pass_strided.c:  pass.h record.h try.h
pass_transposes.c:  pass.h record.h try.h
pass_elements.c: pass.h record.h try.h
pass_simplify.c: pass.h record.h try.h
pool.h:
pool.c:    pool.h
program.h: pool.h trace.h
results.h:
results.c: results.h
program_access.h: program.h
program_access.c: program_access.h
program_live.c: program_access.h
program_turns.c: program_access.h
program_bands.c: program_access.h
program_columns.c: program.h
program.c: kernels.h
program_pairs.c: kernels.h program_access.h
lower.h:   program.h
lower.c:   lower.h try.h
lower_emit.h: lower.h
lower_emit.c: lower_emit.h array.h try.h
lower_scalars.c: lower_emit.h try.h
lower_period.c: lower_emit.h try.h
lower_repeat.c: lower_emit.h try.h
lower_demand.c: lower_emit.h
lower_order.c: lower_emit.h
lower_groups.c: lower_emit.h try.h
lower_fuse.c: lower.h
lower_reuse.c: lower.h try.h
lower_place.c: lower.h try.h
lower_margins.c: lower.h try.h
lower_chain.c: lower.h try.h
program_verify.c: kernels.h
program_file.c: program.h
kernels.h: program.h
kernels.c: kernels.h ops.def scalar.h
pairs.c:   kernels.h
vector_math.c: kernels.h
exec.h:    program.h
exec.c:    exec.h array.h prefetch.h
exec_bands.c: exec.h
exec_crew.c: exec.h
exec_affine.c: exec.h array.h
exec_columns.c: exec.h
loop.h:    program.h
loop.c:    loop.h
exec_scalars.c: exec.h scalar.h ops.def
exec_groups.c: exec.h scalar.h ops.def
exec_repeat.c: exec.h scalar.h ops.def
fastad.h:  program.h loop.h tape.h record.h update.h sweep.h emit.h batch.h trace.h pass.h
pass_reassociate.c: fastad.h try.h
pass_again.c: fastad.h try.h
pass_writes.c: fastad.h pass.h record.h try.h
vectorize.h: trace.h
vectorize_find.c: vectorize.h try.h
pass_vectorize.c: fastad.h pass.h vectorize.h try.h
rows.h:    trace.h
rows.c:    rows.h pass.h try.h
pass_columns.c: fastad.h rows.h try.h
roll.h:    prefetch.h trace.h
roll_order.c:   roll.h try.h
roll_pattern.c: roll.h
roll_class.c:   roll.h scalar.h try.h
roll_operand.c: roll.h record.h try.h
roll_sum.c:     roll.h record.h try.h
roll_run.c:     roll.h record.h try.h
pass_roll.c: fastad.h roll.h try.h
verify.c:  fastad.h
dump.c:    fastad.h
"""

PYTHON = """
errors:
_core:        errors numpy
_reverse:     errors numpy _core
_batch:       numpy _core _program
_schedule:
_deferred:    _passes _program
_program:     errors numpy _core _schedule
_passes:      _core
_bodies:      errors numpy _core _passes _program _record
_loops:       numpy _program
_steps:       numpy _bodies _loops
_ops:         numpy _core
_functions:   numpy _core _ops
_record:      _core
_containers:  errors numpy optree _core
numpy/:       errors numpy _core _ops _record
tape:         errors numpy _core _ops _record _reverse
_calls:       errors numpy _core _record _containers
transforms:   errors numpy _core _deferred _record _reverse _containers _calls
matrices:     errors numpy _core _batch _record _reverse _containers _calls transforms
batching:     errors numpy optree _core _batch _record _containers _calls
function:     errors numpy _core _record
_arguments:   numpy _containers
_progress:
compile:      errors numpy _core _arguments _bodies _calls _containers _passes _progress _record \
              _program
scan:         numpy _bodies _calls _containers _core _loops _program _record _steps transforms
checkpoint:   numpy _bodies _calls _containers _core _record _reverse
check:        errors numpy _core _containers transforms
__init__:     errors _core _ops _functions _program tape transforms matrices batching \
              function compile checkpoint scan
graph/:       errors numpy fast_sugiyama _core _ops _reverse __init__
_formula:     numpy __init__
_expression:  numpy _formula
cli:          numpy _expression __init__ graph/
__main__:     cli
"""


def declared(text):
    """The lines of a list above as {name: set of names it may use}."""
    rows = (line.partition(":") for line in text.strip().splitlines())
    return {name.strip(): set(uses.split()) for name, _, uses in rows}


# --- what a file uses ---------------------------------------------------------------------------


def c_uses(path):
    return set(re.findall(r'^\s*#\s*include\s+"([^"]+)"', path.read_text(), re.MULTILINE))


def python_imports(source):
    """(level, module, names) of every import but those under `if TYPE_CHECKING`."""
    waiting = [ast.parse(source)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            waiting += node.orelse
        elif isinstance(node, ast.Import):
            yield from ((0, alias.name, []) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or "", [alias.name for alias in node.names]
        else:
            waiting += ast.iter_child_nodes(node)


CYTHON_IMPORT = re.compile(
    r"^\s*(?:from\s+(?P<dots>\.*)(?P<module>[\w.]*)\s+c?import\s+\(?(?P<names>[^)#]*?)\)?\s*(?:#.*)?$"
    r"|c?import\s+(?P<plain>[\w., ]+))",
    re.MULTILINE,
)


def cython_imports(source):
    source = re.sub(r"\(([^()]*)\)", lambda match: match[0].replace("\n", " "), source)
    for match in CYTHON_IMPORT.finditer(source):
        if match["plain"]:
            yield from ((0, part.split()[0], []) for part in match["plain"].split(","))
        else:
            names = [part.split()[0] for part in match["names"].split(",") if part.strip()]
            yield len(match["dots"]), match["module"], names


CYTHON_INCLUDE = re.compile(r'^\s*include\s+"([^"]+)"', re.MULTILINE)


def parts(path):
    """The files that a .pyx includes: their text is the module's."""
    return [path.parent / name for name in CYTHON_INCLUDE.findall(path.read_text())]


def modules(package):
    """Dotted name -> the files that make it, for every module of the package."""
    found = {}
    for path in sorted(package.rglob("*.p*")):
        if path.suffix in (".py", ".pyx", ".pxd"):
            *folders, last = path.relative_to(package.parent).with_suffix("").parts
            name = ".".join(folders if last == "__init__" else [*folders, last])
            found.setdefault(name, []).append(path)
            if path.suffix == ".pyx":
                found[name] += parts(path)
    return found


def imported(name, paths, known):
    """Dotted names of what a module imports; of fastad's own, the module's name."""
    for path in paths:
        package = name if path.stem == "__init__" else name.rpartition(".")[0]
        reader = python_imports if path.suffix == ".py" else cython_imports
        for level, module, names in reader(path.read_text()):
            if level:
                base = package.split(".")[: len(package.split(".")) - level + 1]
                module = ".".join([*base, module] if module else base)
            inner = [f"{module}.{part}" for part in names if f"{module}.{part}" in known]
            yield from inner
            if len(inner) < max(len(names), 1):
                yield module


def line_of(dotted):
    """The line of the list that speaks of a module of fastad: its file, or its folder."""
    first, *deeper = dotted.split(".")[1:] or ["__init__"]
    return f"{first}/" if deeper or (ROOT / "src" / "fastad" / first).is_dir() else first


FOREIGN_FREE = {*sys.stdlib_module_names, "cython", "cpython", "libc"}


def python_uses(name, paths, known):
    """Names, as in the list, of what a module uses."""
    found = set()
    for module in imported(name, paths, known):
        top = module.split(".")[0]
        if top == "fastad":
            found.add(line_of(module))
        elif top not in FOREIGN_FREE:
            found.add(top)
    return found - {line_of(name)}


# --- holding it against the lists ---------------------------------------------------------------


def c_faults(folder, allowed):
    for path in sorted([*folder.glob("*.[ch]"), *folder.glob("*.def")]):
        if path.name not in allowed and path.suffix != ".def":
            yield f"csrc/{path.name} has no line in tests/test_layers.py"
        for name in sorted(c_uses(path) - allowed.get(path.name, set())):
            yield f"csrc/{path.name} may not include {name}"
        if re.search(r"#\s*include\s*<(Python|numpy/)", path.read_text()):
            yield f"csrc/{path.name} knows Python"


def python_faults(package, allowed):
    known = modules(package)
    for name, paths in known.items():
        line = line_of(name)
        if line not in allowed:
            yield f"{name} has no line in tests/test_layers.py"
        for used in sorted(python_uses(name, paths, known) - allowed.get(line, set())):
            yield f"{name} may not use {used}"
    for path in sorted({*package.rglob("*.pxi")}.difference(*known.values())):
        yield f"{path.relative_to(package)} is included nowhere"


def circle(edges):
    """A circle in {name: names}, or None: what is left when all that use nothing left are gone."""
    edges = {name: set(uses) & set(edges) - {name} for name, uses in edges.items()}
    while free := [name for name, uses in edges.items() if not uses]:
        for name in free:
            del edges[name]
        edges = {name: uses - set(free) for name, uses in edges.items()}
    return sorted(edges) or None


def import_circle(package):
    known = modules(package)
    return circle({name: set(imported(name, paths, known)) for name, paths in known.items()})


def faults():
    package = ROOT / "src" / "fastad"
    yield from c_faults(ROOT / "csrc", declared(C))
    yield from python_faults(package, declared(PYTHON))
    if found := import_circle(package):
        yield f"import circle among {', '.join(found)}"


# --- tests --------------------------------------------------------------------------------------


def test_layers():
    assert list(faults()) == []


@pytest.mark.parametrize("text", [C, PYTHON])
def test_the_lists_themselves_flow_one_way(text):
    assert circle(declared(text)) is None


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("_ops.py", "def f():\n    from . import tape\n", "fastad._ops may not use tape"),
        ("_ops.py", "from fastad import _core, tape\n", "fastad._ops may not use tape"),
        ("_ops.py", "from fastad import grad\n", "fastad._ops may not use __init__"),
        ("_ops.py", "import scipy.special\n", "fastad._ops may not use scipy"),
        ("numpy/x.py", "from ..tape import Tape\n", "fastad.numpy.x may not use tape"),
        ("_core.pyx", "from fastad.tape cimport (A,\n  B)\n", "fastad._core may not use tape"),
        ("_core.pyx", "cimport fastad.tape as t\n", "fastad._core may not use tape"),
        ("fresh.py", "", "fastad.fresh has no line in tests/test_layers.py"),
    ],
)
def test_a_planted_import_is_seen(tmp_path, name, text, fault):
    package = tmp_path / "fastad"
    (package / "numpy").mkdir(parents=True)
    for path in ("__init__.py", "numpy/__init__.py", "tape.py", "_core.pxd"):
        (package / path).touch()
    (package / name).write_text(text)
    assert list(python_faults(package, declared(PYTHON))) == [fault]


def test_a_planted_import_in_a_part_is_seen(tmp_path):
    package = tmp_path / "fastad"
    (package / "core").mkdir(parents=True)
    for path in ("__init__.py", "tape.py", "core/lost.pxi"):
        (package / path).touch()
    (package / "_core.pyx").write_text('include "core/part.pxi"  # a part\n')
    (package / "core/part.pxi").write_text("from fastad.tape import Tape\n")
    seen = list(python_faults(package, declared(PYTHON)))
    assert seen == ["fastad._core may not use tape", "core/lost.pxi is included nowhere"]


def test_a_planted_include_is_seen(tmp_path):
    (tmp_path / "tape.h").write_text('#include "ops.h"\n#include "emit.h"\n#include <Python.h>\n')
    seen = list(c_faults(tmp_path, declared(C)))
    assert seen == ["csrc/tape.h may not include emit.h", "csrc/tape.h knows Python"]


def test_a_planted_circle_is_seen(tmp_path):
    package = tmp_path / "fastad"
    package.mkdir()
    (package / "tape.py").write_text("def f():\n    from .check import g\n")
    (package / "check.py").write_text("from fastad.tape import f\n")
    assert import_circle(package) == ["fastad.check", "fastad.tape"]


if __name__ == "__main__":
    sys.exit("\n".join(faults()) or 0)
