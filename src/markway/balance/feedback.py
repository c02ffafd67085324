"""Load into weights: the controller that gives loaded backends fewer new connections.

A factor in [floor, 1] multiplies each backend's configured weight. Only ratios of weights matter, so a controller of
each backend's load against the mean of all makes them equal; the best one's factor is drawn back to 1.

*The plant.* Connections, and with them load, follow the weights: on a logarithmic scale with gain 1, more near
saturation (a queue of r/(1-r) has the gain 1/(1-r)). What is read lags: a load average of the kernel is an
exponential one over 60 s (kernel/sched/loadavg.c, EXP_1), sampled every 5 s (LOAD_FREQ).

*The law.* Proportional and integral, in velocity form, so that a limit (floor, step) winds nothing up; AIMD, the
other usual choice, never rests. All times are numbers of readings, so who reads more often is answered sooner. At the
usual 5 s the integral time is the lag, 60 s, and cancels it (Skogestad, "Simple analytic rules for model reduction and
PID controller tuning", J. Process Control 13, 2003: Kc = T / (k (tc + d)), Ti = T). A closed loop as slow as
tc + d = 120 s gives Kc = 0.5: half the gain margin that would be spent on speed is kept for backends near saturation,
where k is 5 and more. For readings without a lag the loop is only better damped. A lag T of several integral times Ti
is damped by Ti (1 + Kc) / 2 sqrt(Ti T Kc): at one reading a second, and a lag of five times Ti, by 0.47. More readings
than that are averaged and hasten nothing.

*Rest.* The error counts from BAND on: differences below it are noise and change nothing. Readings are smoothed over
SMOOTHING; what changed by less than STEP_TOLD is not told, since every change rewrites slots. Small loads differ by
chance: the logarithm's origin is IDLE, below which errors fade and factors return to 1. (They do not in the band of a
farm that works: that would only draw loads to its edge, and back, for ever.) Simulated over unlike servers
(tests/property/test_feedback.py) loads end within 20 % of their mean and stay there.

*Unknown.* A backend without a reading for `load.stale` seconds has its configured weight: factor 1, at once. That is
looked at when readings are due, so after three of them by default.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp, floor, log
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from markway.config.model import Load

SMOOTHING = 2.0
"""Readings: the time constant of the average over them."""
GAIN = 0.5
INTEGRAL_TIME = 12.0
"""Readings."""
QUICKEST = 1.0
"""Seconds: a reading counts for so many at least."""
BAND = 0.1
"""The logarithm of a load's distance from the mean that is no distance: about 10 %."""
IDLE = 0.1
"""Of `load.full`: a backend less loaded than this is idle."""
FORGIVING = 12.0
"""Readings: the time constant by which factors return to 1 while all are idle."""
LARGEST_STEP = 0.25
"""The largest change of a factor's logarithm in one step: 22 % down, 28 % up."""
STEP_TOLD = 0.05
"""The smallest change of a factor's logarithm that is worth telling: 5 %."""
SCALE = 100
"""What a configured weight of 1 is in effective weight."""

_WHOLE = 100.0
_RAMP_STEPS = 18
_RAMP_BEGIN = 2  # so much of 20
_ROUNDING = 1e-6  # of a ramp's step
_PUNCTUAL = 0.05  # of `load.every`: so much sooner or later a reading is in time


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of one backend.

    `factor` multiplies its weight. The controller is at `factor * untold`: what is less than STEP_TOLD is kept back.
    `smooth` is the averaged load, 1 being full, None if it is unknown; `error` its logarithmic distance from the
    mean, the band taken off. Of the caller's clock: `read` is when it was read last, and until then when it was
    first asked for; `at` when the last step was made; None before that.
    """

    factor: float = 1.0
    untold: float = 1.0
    smooth: float | None = None
    error: float = 0.0
    read: float | None = None
    at: float | None = None


FRESH = Seen()
"""A backend of which nothing is known."""


def step(
    load: Load,
    states: Mapping[str, Seen],
    readings: Mapping[str, float | None],
    now: float,
    weights: Mapping[str, int],
) -> dict[str, Seen]:
    """One step, to be made about every `load.every` seconds; the states after it, of all in `states` and `weights`.

    `readings` are those since the last step, raw, None or absent where there was none. `weights` are the configured
    weights of the backends to be balanced with each other: those that take new connections now. Others, and those
    of weight 0, take no part: their factor is 1, and they begin from there when they come back.
    """
    names = states.keys() | weights.keys()
    known = {name: _above_floor(load, states.get(name, FRESH)) for name in names}
    found = {name: _read(load, known[name], readings.get(name), now) for name in names}
    active = {name: seen for name, seen in found.items() if weights.get(name, 0) > 0}
    loads = {name: seen.smooth for name, seen in active.items() if seen.smooth is not None}
    distances, idle = _distances(loads), _idleness(loads)
    moved = {
        name: _moved(load, seen, distances[name], idle, now) if name in loads else replace(seen, at=now)
        for name, seen in active.items()
    }
    resting = {
        name: replace(seen, factor=1.0, untold=1.0, error=0.0, at=now)
        for name, seen in found.items()
        if name not in active
    }
    return resting | _told(load, moved, now)


def told(load: Load, states: Mapping[str, Seen], readings: Mapping[str, float | None], now: float) -> dict[str, Seen]:
    """What agents say: a reading is no measurement but an order, in per cent of the weight, 0 included, at most 100.

    An agent that has not spoken for `load.stale` seconds has said 100.
    """
    after = {}
    for name in states.keys() | readings.keys():
        seen, reading = states.get(name, FRESH), readings.get(name)
        if reading is None:
            after[name] = _unread(load, seen, now)
        else:
            percent = min(reading, _WHOLE) / _WHOLE
            after[name] = Seen(factor=percent, read=now, at=now)
    return after


def effective(configured: int, factor: float, ramp: float = 1.0) -> int:
    """The weight to balance by, in SCALE-ths: at least 1 unless the weight, the factor or the ramp is 0."""
    exact = configured * SCALE * factor * ramp
    return max(1, round(exact)) if exact > 0 else 0


def ramp(elapsed: float, slow_start: float) -> float:
    """How much of its weight a backend has that came back so many seconds ago: 0.1 at once, 1 after `slow_start`.

    It rises in 18 equal steps, for each rewrites slots in the kernel.
    """
    return (_ramp_step(elapsed, slow_start) + _RAMP_BEGIN) / (_RAMP_STEPS + _RAMP_BEGIN)


def next_ramp(elapsed: float, slow_start: float) -> float:
    """How many seconds after it came back a backend's `ramp` rises next; `slow_start` if it is 1 already."""
    return min(_ramp_step(elapsed, slow_start) + 1, _RAMP_STEPS) * slow_start / _RAMP_STEPS


def ramped_for(reached: float, slow_start: float) -> float:
    """How many seconds after it came back a backend's `ramp` has come to this."""
    return (reached * (_RAMP_STEPS + _RAMP_BEGIN) - _RAMP_BEGIN) * slow_start / _RAMP_STEPS


def _ramp_step(elapsed: float, slow_start: float) -> int:
    if elapsed >= slow_start:
        return _RAMP_STEPS
    return max(0, min(_RAMP_STEPS, floor(elapsed * _RAMP_STEPS / slow_start + _ROUNDING)))


def _above_floor(load: Load, seen: Seen) -> Seen:
    """A state that may be of another time: of a higher floor, or of an agent that may say 0."""
    return seen if seen.factor >= load.floor else replace(seen, factor=load.floor, untold=1.0)


def _read(load: Load, seen: Seen, reading: float | None, now: float) -> Seen:
    """Take in a reading."""
    if reading is None:
        return _unread(load, seen, now)
    value = reading / load.full
    if seen.smooth is not None and seen.read is not None:
        value += (seen.smooth - value) * exp(-(now - seen.read) / (SMOOTHING * _pace(load)))
    return replace(seen, smooth=value, read=now)


def _unread(load: Load, seen: Seen, now: float) -> Seen:
    """No reading: the last one counts until it is stale."""
    if seen.read is None:
        return replace(seen, read=now)
    return Seen(read=seen.read, at=now) if _stale(load, seen, now) else seen


def _stale(load: Load, seen: Seen, now: float) -> bool:
    """Whether nothing was read for so long that what was does not count any more."""
    return seen.read is not None and now - seen.read >= load.stale - _PUNCTUAL * load.every


def _pace(load: Load) -> float:
    """Seconds from one reading to the next, as the law counts them."""
    return max(load.every, QUICKEST)


def _distances(loads: Mapping[str, float]) -> dict[str, float]:
    """How far each load is from the mean, on a logarithmic scale."""
    logarithms = {name: log(IDLE + load) for name, load in loads.items()}
    mean = sum(logarithms.values()) / max(1, len(loads))
    return {name: value - mean for name, value in logarithms.items()}


def _idleness(loads: Mapping[str, float]) -> float:
    """0 if any backend works, 1 if none does, or there are no two to be compared."""
    return max(0.0, 1 - max(loads.values()) / IDLE) if len(loads) > 1 else 1.0


def _moved(load: Load, seen: Seen, distance: float, idle: float, now: float) -> Seen:
    """The controller's law, on the logarithm of the factor."""
    passed = load.every if seen.at is None else min(now - seen.at, 2 * load.every)
    here = log(seen.factor * seen.untold)
    error = distance - max(-BAND, min(BAND, distance))
    forgiven = here * idle * min(1.0, passed / (FORGIVING * _pace(load)))
    change = -GAIN * (error - seen.error + error * passed / (INTEGRAL_TIME * _pace(load))) - forgiven
    change = max(-LARGEST_STEP, min(LARGEST_STEP, change))
    return replace(seen, untold=exp(here + change) / seen.factor, error=error, at=now)


def _told(load: Load, moved: Mapping[str, Seen], now: float) -> dict[str, Seen]:
    """Draw the best back to 1, keep all above the floor, and tell all if one has changed enough.

    Who is unknown is at 1 already, and no measure for the others.
    """
    wanted = {name: seen.factor * seen.untold for name, seen in moved.items()}
    best = max((factor for name, factor in wanted.items() if not _stale(load, moved[name], now)), default=1.0)
    wanted = {name: max(load.floor, min(1.0, factor / best)) for name, factor in wanted.items()}
    if any(abs(log(wanted[name] / seen.factor)) >= STEP_TOLD for name, seen in moved.items()):
        return {name: replace(seen, factor=wanted[name], untold=1.0) for name, seen in moved.items()}
    return {name: replace(seen, untold=wanted[name] / seen.factor) for name, seen in moved.items()}
