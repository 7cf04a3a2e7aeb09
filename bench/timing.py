"""How two programs are compared on a machine that is never quite still: turn by turn, in one process.

In every round each contestant has one turn, in a new random order; what slows the machine down for a second slows all
of them. So the ratio of two times is taken inside a round, and the result is the median of these ratios over the
rounds, with quartiles that tell how far it can be trusted.
"""

import gc
import random
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple


class Spread(NamedTuple):
    """The middle half of some numbers."""

    low: float
    median: float
    high: float


def spread(values: list[float]) -> Spread:
    """The quartiles; of one number, three times that number."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    return Spread(*statistics.quantiles(values, n=4, method="inclusive"))


def ratios(theirs: list[float], ours: list[float]) -> Spread:
    """Their time over ours, round by round: above 1 ours is faster."""
    return spread([their / our for their, our in zip(theirs, ours, strict=True)])


def take_turns(
    contestants: dict[str, Callable[[], object]],
    rounds: int,
    turn: float = 0.0,
    synchronise: Callable[[], object] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
    seed: int = 0,
) -> dict[str, list[float]]:
    """Seconds for one call of each contestant, one number a round.

    A turn is as many calls as fill about `turn` seconds, at least one. Two calls before the first round warm up and
    are not counted. `synchronise` waits until the device has done what it was told.
    """

    def seconds(call: Callable[[], object], calls: int) -> float:
        synchronise()
        start = clock()
        for _ in range(calls):
            call()
        synchronise()
        return (clock() - start) / calls

    calls = {}
    for name, call in contestants.items():
        seconds(call, 1)
        calls[name] = max(1, round(turn / max(seconds(call, 1), 1e-9)))
    times = {name: [] for name in contestants}
    order, shuffle = list(contestants), random.Random(seed).shuffle
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            shuffle(order)
            for name in order:
                times[name].append(seconds(contestants[name], calls[name]))
    finally:
        gc.enable()
    return times
