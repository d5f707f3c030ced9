"""Prints each failing case of a file; exits 0 if all pass, 1 if one fails, 2 on a bad file."""

from __future__ import annotations

import json
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

from scripts.charge_cases.running import run_case


class BadFile(Exception):
    """The file cannot be read as a list of cases; the message says why."""


def read_cases(path: Path) -> list[dict[str, Any]]:
    """Return a file's cases.

    Raises:
        BadFile: if it is not a JSON array of objects with an id each, or has none.
    """
    try:
        cases = json.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except OSError as error:
        raise BadFile(f"cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise BadFile(f"is not JSON: {error}") from None
    if not isinstance(cases, list) or not cases:
        raise BadFile("is not a JSON array of at least one case")
    for index, case in enumerate(cases):
        if not isinstance(case, dict) or not isinstance(case.get("id"), str):
            raise BadFile(f"item {index} is not an object with an id")
        missing = [name for name in ("model", "params", "expected") if name not in case]
        if missing:
            raise BadFile(f"case {case['id']} has no {' and no '.join(missing)}")
    ids = [case["id"] for case in cases]
    if len(set(ids)) != len(ids):
        raise BadFile(f"has two cases {next(name for name in ids if ids.count(name) > 1)}")
    return cases


def main(arguments: list[str]) -> int:
    """Run the cases of the file that the arguments name, and return the exit status."""
    if len(arguments) != 1:
        sys.stderr.write("usage: scripts/check_charge_cases FILE\n")
        return 2
    path = Path(arguments[0])
    try:
        cases = read_cases(path)
    except BadFile as error:
        sys.stderr.write(f"check_charge_cases: {path} {error}\n")
        return 2
    failed = 0
    for case in cases:
        problems = run_case(case)
        failed += bool(problems)
        for problem in problems:
            sys.stdout.write(f"{case['id']} ({case['model']}): {problem}\n")
    sys.stdout.write(f"{len(cases) - failed} of {len(cases)} cases pass\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
