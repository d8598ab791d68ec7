"""The profile of `make fuzz`, and what is printed at the end of it."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import settings

from tests.fuzz.laws import OUTCOMES, Tally, is_thorough

settings.register_profile("fuzz")  # what is in it, `fuzzed` says: it depends on the test


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Tally:
    """Counts of this test's cases; they go with its report, also from another process."""
    counts: Tally = dict.fromkeys(OUTCOMES, 0)  # a plain dict, as between processes no other goes
    request.node.user_properties.append(("fuzz", counts))
    return counts


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many cases there were, by `make fuzz` of each kind, and what came of them."""
    kinds: dict[str, Counter[str]] = {}
    for report in (report for reports in terminalreporter.stats.values() for report in reports):
        if getattr(report, "when", None) == "call":
            for name, counts in report.user_properties:
                if name == "fuzz":
                    test = report.nodeid.rpartition("::")[2]
                    kinds.setdefault(test, Counter()).update(counts)
    if not kinds:
        return
    terminalreporter.section("fuzzed")
    by_kind = sorted(kinds.items()) if is_thorough() else []
    for kind, counts in [*by_kind, ("in all", sum(kinds.values(), Counter()))]:
        outcomes = ", ".join(f"{counts[outcome]:,} {outcome}" for outcome in OUTCOMES)
        terminalreporter.line(f"{kind}: {sum(counts[outcome] for outcome in OUTCOMES):,} cases: {outcomes}")
