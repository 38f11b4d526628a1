"""fastad and its peers, side by side, in one run on one core.

    python benchmarks/compare.py one-shot             the whole table
    python benchmarks/compare.py one-shot --quick     does everything work? the figures mean little
    python benchmarks/compare.py one-shot --large     10^8 operations as well (about 4 GiB)
    python benchmarks/compare.py one-shot --only rosenbrock-3 --json out.json
    python benchmarks/compare.py replay               compiled functions
    python benchmarks/compare.py workloads            functions that others chose, every peer

Every gradient is checked against one written by hand before it is timed.  A package that is not
installed is reported as missing.  docs/benchmarks.md tells how the figures are taken.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
from importlib import import_module
from pathlib import Path

from harness import machine, report
from harness.session import Case, Session
from harness.timing import FULL, QUICK

COMMANDS = {
    "one-shot": ("one_shot", "recording, the reverse loop, one-shot gradients, their cost"),
    "replay": ("replay", "compiled functions: replay, compiling, batches, scans, branches"),
    "workloads": ("workloads", "eight functions of public benchmarks, and C written by hand"),
}


def arguments(words: list[str] | None) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (_, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary)
        command.add_argument("--quick", action="store_true", help="a short functional run")
        command.add_argument("--large", action="store_true", help="the largest sizes as well")
        command.add_argument("--only", action="append", metavar="CASE", help="one case; repeatable")
        command.add_argument("--list", action="store_true", help="name the cases and stop")
        command.add_argument("--peers", metavar="A,B", help="only these peers; 'none' for none")
        command.add_argument("--core", type=int, help="the core to pin to; else the last one")
        command.add_argument("--json", metavar="FILE", type=Path, help="write the figures there")
        command.add_argument("--strict", action="store_true", help="exit status 1 on a MISS too")
    of_workloads(commands.choices["workloads"])
    return parser.parse_args(words)


def of_workloads(command: argparse.ArgumentParser) -> None:
    """What only ``workloads`` knows."""
    command.add_argument("--threads", type=int, default=1, metavar="N", help="threads and cores")
    command.add_argument("--timeout", type=float, metavar="S", help="seconds for one answer")
    command.add_argument("--memory", type=float, default=8.0, metavar="GIB", help="for one process")
    command.add_argument("--csv", metavar="FILE", type=Path, help="write the figures there")
    command.add_argument("--html", metavar="FILE", type=Path, help="write a page with charts there")


def selected(cases: tuple[Case, ...], only: list[str] | None) -> list[Case]:
    """The cases that were asked for; an unknown name is an error."""
    unknown = set(only or ()) - {case.name for case in cases}
    if unknown:
        sys.exit(f"no such case: {', '.join(sorted(unknown))}; --list names them")
    return [case for case in cases if not only or case.name in only]


def new_session(options: argparse.Namespace) -> Session:
    """Import the contenders; without fastad there is nothing to compare."""
    import peers

    names = peers.ADAPTERS
    if options.peers:
        names = tuple(name for name in options.peers.split(",") if name != "none")
    try:
        (ours,) = peers.load(peers.OURS)
    except ImportError as error:
        sys.exit(f"fastad cannot be imported: {error}. Install it first: pip install '.[peers]'")
    others, absent = peers.load_all(names)
    absent |= {name: "left out by --peers" for name in peers.ADAPTERS if name not in names}
    effort = QUICK if options.quick else FULL
    return Session(ours, others, absent, effort, options.quick, options.large)


def header(session: Session, core: int | None, names: tuple[str, ...]) -> dict[str, str]:
    """The machine, the versions, and how the figures are taken."""
    import peers

    facts = machine.description(core)
    facts["versions"] = ", ".join(f"{k} {v}" for k, v in peers.versions(names).items())
    effort = session.effort
    facts["figures"] = (
        f"contenders in turn; best of {effort.blocks} blocks of about {effort.block_seconds:g} s "
        f"in each of {effort.rounds} rounds, then the median; ratios of those; garbage collector "
        "off inside a round"
    )
    if session.quick:
        facts["WARNING"] = "--quick: this shows that everything works, not how fast it is"
    return facts


def main(words: list[str] | None = None) -> int:
    """Run one subcommand; exit status 1 if a gradient was wrong (or, with --strict, on a MISS)."""
    options = arguments(words)
    machine.one_thread()
    core = machine.pin(options.core)
    package = import_module(COMMANDS[options.command][0])
    cases = package.CASES
    if options.list:
        print("\n".join(f"{case.name:18} {case.title}" for case in cases))
        return 0
    chosen = selected(cases, options.only)
    session = getattr(package, "new_session", new_session)(options)
    import peers

    facts = header(session, core, (peers.OURS, *getattr(package, "PACKAGES", peers.ADAPTERS)))
    facts |= getattr(package, "facts", dict)()
    print("\n".join(f"{key}: {value}" for key, value in facts.items()), end="\n\n")
    gc.collect()
    gc.freeze()
    lines = {case.name: run_case(case, session) for case in chosen}
    everything = [line for group in lines.values() for line in group]
    print(report.summary(everything))
    if options.json:
        write_json(options.json, facts, lines)
    if hasattr(package, "write_pages"):
        package.write_pages(options, facts, session, everything)
    failing = {"WRONG", "MISS"} if options.strict else {"WRONG"}
    return int(any(line.verdict in failing for line in everything))


def run_case(case: Case, session: Session) -> list[report.Line]:
    """Measure one case and print its table at once."""
    lines = list(case.run(session))
    print(report.table(case.title, lines), flush=True)
    gc.collect()
    return lines


def write_json(path: Path, facts: dict[str, str], lines: dict[str, list[report.Line]]) -> None:
    """Header and lines as JSON."""
    cases = {name: [line.as_json() for line in group] for name, group in lines.items()}
    path.write_text(json.dumps({"header": facts, "cases": cases}, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    sys.exit(main())
