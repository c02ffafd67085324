"""The operator's words: windows, patterns and forms of dates; what is refused, and how it says so."""

from __future__ import annotations

import re

import pytest

from markway.config.guarding import LADDER, Window
from markway.config.ladder import parse_window
from markway.config.log_patterns import needle, parse_date_form, parse_pattern
from markway.config.problems import WrongValue

A = "(?P<address>x)"


@pytest.mark.parametrize("window", LADDER, ids=str)
def test_a_window_is_read_as_it_is_written(window):
    assert parse_window(str(window)) == window


def test_a_window_may_be_any_time_span():
    assert parse_window("10 in 1h 30min") == Window(10, 5400.0)


@pytest.mark.parametrize("text", ["", "2", "2 in", "0 in 5s", "two in 20s", "2 in 20", "2 in 0s", "999999999 in 5s"])
def test_what_is_no_window_is_refused(text):
    with pytest.raises(WrongValue):
        parse_window(text)


@pytest.mark.parametrize(
    ("pattern", "literal"),
    [
        (r".* from (?P<address>\S+) port \d+.*", " from "),
        (r"(?P<address>(?:\d{1,3}\.){3}\d{1,3}) failed", " failed"),
        (r"(?P<address>[]()*+|]+) x", " x"),
        (r"(?P<address>[^]*+)]+)", ""),
        (r"(?:(?>a+))*(?P<address>x) \[b\]", " [b]"),
        (r"(?:[a-z]++ )*(?P<address>x)", ""),
        (r"(?P<address>\S+)( \S+){2} ab+cde", "cde"),
        (r"(?P<address>x)(?=a+)(?!b*)(?<=a)(?<!b)", ""),
        (r"(?P<address>x)|yyyy", ""),
        (r"(?P<address>x)a{2,}b{,3}c{x}", "c{x}"),
        (r"(?P<address>x)\x41\x42 ab", ""),
        (r"(?i)(?P<address>x)abc", ""),
        (r"(?P<address>x)(?i:abc)de", "de"),
        (r"(?P<address>x)(?#a(b)de", "de"),
        (r"(?P<address>x)(?P<b>y)(?P=b)(?(b)c|d)ef", "ef"),
    ],
)
def test_a_pattern_is_taken_with_the_text_that_each_line_has(pattern, literal):
    assert needle(parse_pattern(pattern)) == literal


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+" + A, "(a|a)*" + A, "(a*)*" + A, "(?:a?)+" + A, "(?P<address>x+)+b", "(.*,){11}P" + A,
        "((ab)*c|d){2,}" + A, "(?:(?:a+)?)*" + A, "([)]+)+" + A, r"(\)+)+" + A, ".*" * 7 + A,
    ],
)  # fmt: skip
def test_a_pattern_that_may_take_for_ever_is_refused(pattern):
    re.compile(pattern)
    with pytest.raises(WrongValue, match=r"repeats"):
        parse_pattern(pattern)


@pytest.mark.parametrize("pattern", ["(", "x", "(?P<addres>x)", "(?x) " + A, A + "x" * 1000, A + "{99999999999999}"])
def test_what_is_no_pattern_is_refused(pattern):
    with pytest.raises(WrongValue):
        parse_pattern(pattern)


def test_a_form_of_dates_is_read():
    assert parse_date_form("[%d/%b/%Y:%H:%M:%S.%f %z] 100%%").fullmatch("[02/Jan/2024:03:04:05.123 +0100] 100%")


@pytest.mark.parametrize("form", ["%Q", "%", "%s %s", "%Y %s"])
def test_an_unknown_form_of_dates_is_refused(form):
    with pytest.raises(WrongValue):
        parse_date_form(form)
