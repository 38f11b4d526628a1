"""`make demo`: the demonstration agrees with itself and leaves a picture."""

import importlib.util
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parent.parent / "examples" / "demo.py"


@pytest.fixture
def demo(monkeypatch, tmp_path):
    """The demonstration as a module, told to draw into a fresh folder."""
    monkeypatch.setattr(sys, "argv", ["demo.py", str(tmp_path / "new" / "graph.svg")])
    spec = importlib.util.spec_from_file_location("demo", DEMO)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_demo(demo, tmp_path, capsys):
    assert demo.main() == 0
    shown = capsys.readouterr().out
    assert "all three agree" in shown
    assert "f'(x)  = -1.87400170" in shown
    assert (tmp_path / "new" / "graph.svg").read_text(encoding="utf-8").startswith("<")


def test_demo_notices_a_wrong_gradient(demo, monkeypatch, capsys):
    right = demo.fad.value_and_grad
    monkeypatch.setattr(demo.fad, "value_and_grad", lambda f: lambda x: (f(x), 2 * right(f)(x)[1]))
    assert not demo.show_check(n=100)
