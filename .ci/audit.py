"""Looks the pins of constraints.txt up in PyPI's advisories; run by ``make audit`` with the Python that has pip-audit.

Exit codes: 0 all were looked up and have no known weakness, 1 known weaknesses, 4 not all could be looked up. pip-audit alone
ends with 0 where an index has no advisories, and with a traceback where nobody answers.
"""

import json
import subprocess
import sys
from pathlib import Path

PINS = Path(__file__).parents[1] / "constraints.txt"
CLEAN, WEAK, UNKNOWN = 0, 1, 4


def read(output: str, errors: str) -> tuple[list[str], int]:
    """Return lines for the screen and the exit code.

    Args:
        output: pip-audit's JSON; something else where it failed.
        errors: its stderr.
    """
    try:
        entries = json.loads(output)["dependencies"]
    except (ValueError, KeyError, TypeError):
        why = (errors.strip().splitlines() or ["no reason given"])[-1][:300]
        return [f"audit: the advisories cannot be read, so nothing is shown ({why})"], UNKNOWN
    skipped = [entry["name"] for entry in entries if "skip_reason" in entry]
    weak = [
        f"audit: {entry['name']} {entry['version']}: {weakness['id']}, "
        f"mended in {', '.join(weakness['fix_versions']) or 'no release'}"
        for entry in entries
        for weakness in entry.get("vulns", ())
    ]
    lines = list(weak)
    if skipped or not entries:
        lines.append(
            f"audit: {len(skipped)} of {len(entries)} pins are not in the advisories that answer here "
            f"({', '.join(skipped[:3])}{', …' if len(skipped) > 3 else ''}), so nothing is shown of them; run it where PyPI itself answers"
        )
    if not lines:
        lines.append(f"audit: {len(entries)} pins looked up, no known weakness")
    return lines, WEAK if weak else UNKNOWN if skipped or not entries else CLEAN


def main() -> int:
    """Run pip-audit and print its findings."""
    options = ("--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json")
    command = [sys.executable, "-m", "pip_audit", "-r", str(PINS), *options]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    lines, code = read(ended.stdout, ended.stderr)
    print("\n".join(lines), file=sys.stderr if code else sys.stdout)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
