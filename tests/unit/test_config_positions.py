"""Positions in the notations that the property test does not write."""

from __future__ import annotations

from markway.config.positions import Position, scan

TEXT = """\
[a.b]          # 1
x = 1
[a]            # 3: after its own table
y = { z = [ # 4
  1,
  { "k.k" = 2,
    "\\u0041" = 3, },
] }
[[t]]          # 9
[t.u]
v = 1
[[t]]          # 12
w.x.y = '''
[not.a.table]
''' # 15
w.x.z = 1979-05-27 07:32:00
"""


def test_places():
    positions = scan(TEXT)
    expected = {
        (): (1, 1), ("a", "b"): (1, 4), ("a", "b", "x"): (2, 1), ("a",): (3, 2), ("a", "y"): (4, 1),
        ("a", "y", "z"): (4, 7), ("a", "y", "z", 0): (5, 3), ("a", "y", "z", 1): (6, 3),
        ("a", "y", "z", 1, "k.k"): (6, 5), ("a", "y", "z", 1, "A"): (7, 5), ("t",): (9, 3), ("t", 0): (9, 3),
        ("t", 0, "u"): (10, 4), ("t", 0, "u", "v"): (11, 1), ("t", 1): (12, 3), ("t", 1, "w", "x", "y"): (13, 5),
        ("t", 1, "w", "x", "z"): (16, 5), ("a", "nowhere"): (3, 2), ("nowhere",): (1, 1),
    }  # fmt: skip
    assert {path: positions.find(path) for path in expected} == {
        path: Position(*place) for path, place in expected.items()
    }


def test_broken_text_keeps_what_was_read():
    assert scan("a = 1\nb = [2, {c = ").find(("b", 1, "c")) == (2, 10)
    assert scan('a = "\nb = 1').find(("b",)) == (1, 1)
