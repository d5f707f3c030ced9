"""scripts/check_charge_cases: what it says of cases that hold, of those that fail, of bad files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("TALLYBOOK_SHARED") or ROOT.parent / "shared")
CASES = SHARED / "cases" / "charge_cases.json"


def check(path: Path) -> subprocess.CompletedProcess[str]:
    """Run the program behind the script, in the environment that runs the tests."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "scripts.charge_cases", str(path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def case(id: str = "own_1", **members: Any) -> dict[str, Any]:
    """Return a case that holds: three units at four."""
    return {
        "id": id,
        "model": "unit",
        "params": {"amount": "4"},
        "quantity": "3",
        "expected": {"amount": "12"},
    } | members


def written(tmp_path: Path, content: Any) -> Path:
    """Return a file with this JSON in it."""
    path = tmp_path / "cases.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.skipif(not CASES.exists(), reason=f"there is no {CASES.name} in {SHARED}/cases")
def test_the_shared_cases_pass() -> None:
    """Figures of five other systems' own tests; skipped where the folder is not there."""
    done = check(CASES)
    assert done.returncode == 0, done.stdout + done.stderr


def test_cases_that_hold_pass(tmp_path: Path) -> None:
    """A minimum, a maximum and a package are parameters, whatever the model is called."""
    cases = [
        case(),
        case("own_2", params={"amount": "4", "max_spend": "10"}, expected={"amount": "10"}),
        case("own_3", params={"amount": 4, "min_spend": 20.5}, expected={"amount": "20.50"}),
        case("own_4", params={"amount": "4", "package_size": "2"}, expected={"amount": "8"}),
    ]
    done = check(written(tmp_path, cases))
    assert (done.returncode, done.stdout) == (0, "4 of 4 cases pass\n")


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"expected": {"amount": "12.01"}}, "own_1 (unit): amount: expected 12.01, got 12\n"),
        ({"expected": {"amount": "12", "lines": ["5", "7"]}}, "lines: expected ['5', '7'], got"),
        ({"expected": {"amount": "12", "stars": "5"}}, "stars: expected 5, got nothing"),
        ({"params": {"amount": "4", "moons": "1"}}, "does not know: ['moons']"),
        ({"params": {"amount": "four"}}, "params.amount is 'four'"),
        ({"params": {"amount": "-4"}}, "refused: invalid_rate at /tiers/0/rate"),
        ({"quantity": "-3"}, "refused: invalid_quantity"),
        ({"quantity": None}, "case has no quantity"),
        ({"params": {}}, "neither ranges nor tiers nor an amount"),
        ({"params": []}, "params is []"),
        ({"model": 5}, "names no model"),
    ],
)
def test_a_case_that_fails_is_printed_and_the_others_still_run(
    tmp_path: Path, members: dict[str, Any], said: str
) -> None:
    """With what was expected and what came out, or why it could not be rated."""
    done = check(written(tmp_path, [case(**members), case("own_2")]))
    assert done.returncode == 1
    assert said in done.stdout
    assert done.stdout.endswith("1 of 2 cases pass\n")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "is not a JSON array of at least one case"),
        ([], "is not a JSON array of at least one case"),
        ([5], "item 0 is not an object with an id"),
        ([{"id": "a", "model": "unit"}], "case a has no params and no expected"),
        ([case(), case()], "has two cases own_1"),
    ],
)
def test_a_file_that_is_no_list_of_cases_is_refused(
    tmp_path: Path, content: Any, said: str
) -> None:
    """One line says why, and nothing was rated."""
    done = check(written(tmp_path, content))
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_file_that_is_not_there_or_not_json_is_refused(tmp_path: Path) -> None:
    """Without a stack trace."""
    missing = check(tmp_path / "nowhere.json")
    assert (missing.returncode, missing.stdout) == (2, "")
    broken = tmp_path / "broken.json"
    broken.write_bytes(b"[\xff")
    done = check(broken)
    assert done.returncode == 2
    assert "is not JSON" in done.stderr
