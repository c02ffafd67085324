"""Which tests can run in this kernel, and an account of it.

    @pytest.mark.needs("cls_fw", "ipvs")    names of `markway.kernel.capabilities.FEATURES`
    @pytest.mark.virtual_time               the test lets more time pass than anyone waits for
    @pytest.mark.alone                      no other test runs meanwhile

A test whose need this kernel lacks is left to another kernel, and said to be: `make test` runs
what was left in the full kernel and fails if a test ran nowhere. See docs/testing.md.
"""

from __future__ import annotations

import json
import os
import signal
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from tests.room import room

from markway.kernel.capabilities import FEATURES, Answer, probe, release

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KERNEL = os.environ.get("MARKWAY_TEST_KERNEL", "machine")
VIRTUAL_TIME = bool(os.environ.get("MARKWAY_VIRTUAL_TIME"))
SIDE_BY_SIDE = "PYTEST_XDIST_WORKER" in os.environ  # this process is one of several that share the tests

_MARKERS = (
    "alone: judges what others would disturb, or disturbs them: where tests run side by side, it waits for them",
    "kernel: needs root and builds network namespaces",
    "needs(*features): runs only in a kernel that has these features (markway.kernel.capabilities)",
    "virtual_time: runs only where the clock jumps over waiting",
    "real_time: measures seconds of work, which virtual time does not count",
)


class Account:
    """What ran here, and what was left to another kernel and why. pytest tells it how each test ended."""

    def __init__(self) -> None:
        self.ran: dict[str, str] = {}
        self.left: dict[str, str] = {}
        self.begun = time.monotonic()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        test, outcome = report.nodeid, report.outcome
        if report.when == "call" or outcome != "passed":
            self.ran[test] = "failed" if "failed" in (self.ran.get(test), outcome) else outcome

    def write(self, path: Path) -> None:
        """For `python -m fullkernel account`."""
        found = {
            "kernel": KERNEL,
            "release": release(),
            "virtual_time": VIRTUAL_TIME,
            "seconds": time.monotonic() - self.begun,
            "ran": self.ran,
            "left": self.left,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


_account = pytest.StashKey[Account]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-cases", action="store_true", help="write what tests/cases expect anew, to be read over")
    parser.addoption("--record", type=Path, metavar="FILE", help="write down what ran here and what was left")
    parser.addoption("--leave", type=Path, metavar="FILE", help="leave what was left in this record; probe nothing")


def pytest_configure(config: pytest.Config) -> None:
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)
    settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("untimed")
    # Ignored where a shell has put this into the background, it would be ignored by all that the tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.stash[_account] = Account()
    config.pluginmanager.register(config.stash[_account])


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    account = config.stash[_account]
    if path := config.getoption("--leave"):
        account.left = json.loads(path.read_text(encoding="utf-8"))["left"]
    else:
        account.left = {item.nodeid: reason for item in items if (reason := missing(item))}
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid in account.left])
    items[:] = [item for item in items if item.nodeid not in account.left]


def missing(item: pytest.Item) -> str:
    """What the test needs and this kernel lacks; empty if nothing."""
    if item.get_closest_marker("virtual_time") and not VIRTUAL_TIME:
        return "virtual time"
    if item.get_closest_marker("real_time") and VIRTUAL_TIME:
        return "real time"
    names = [name for marker in item.iter_markers("needs") for name in marker.args]
    unknown = [name for name in names if name not in FEATURES]
    if unknown:
        raise pytest.UsageError(f'{item.nodeid}: no feature is called "{unknown[0]}"')
    return ", ".join(name for name in names if os.geteuid() == 0 and not has(name))


@cache
def has(name: str) -> bool:
    """Whether this kernel does it, by the probe that Markway uses. Asked three times: a busy machine may be late."""
    return any(probe(FEATURES[name]).answer is Answer.YES for _ in range(3))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    if not SIDE_BY_SIDE:
        return (yield)
    with room(alone=item.get_closest_marker("alone") is not None):
        return (yield)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """One of several processes has ended. It told of each test that it ran; and each of them collected all."""
    node.config.stash[_account].left |= node.workeroutput.get("left", {})


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    account = session.config.stash[_account]
    if SIDE_BY_SIDE:
        session.config.workeroutput["left"] = account.left  # type: ignore[attr-defined] # pytest-xdist's
    elif path := session.config.getoption("--record"):
        account.write(path)
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and account.left:
        session.exitstatus = pytest.ExitCode.OK  # all were left to another kernel, which will say so


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    reasons: dict[str, int] = {}
    for reason in config.stash[_account].left.values():
        reasons[reason] = reasons.get(reason, 0) + 1
    for reason, number in sorted(reasons.items()):
        terminalreporter.write_line(f"{number} left to another kernel, for they need {reason}")


@pytest.fixture
def pass_time(request: pytest.FixtureRequest) -> Callable[[float], None]:
    """Let seconds pass. Only in virtual time, where that costs nothing and is exact."""
    assert request.node.get_closest_marker("virtual_time"), "only a test in virtual time may let time pass"
    return time.sleep
