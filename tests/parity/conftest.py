"""Print the largest relative error of each stage at the end of a session with parity tests."""

from __future__ import annotations

from tests.parity.recorded import largest_errors


def pytest_terminal_summary(terminalreporter) -> None:
    if largest_errors:
        terminalreporter.section("parity with the recorded cases: largest relative error")
        for stage, errors in sorted(largest_errors.items()):
            row = ", ".join(f"{kind} {error:.1e}" for kind, error in sorted(errors.items(), reverse=True))
            terminalreporter.write_line(f"{stage}: {row}")
