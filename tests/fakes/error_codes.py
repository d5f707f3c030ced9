"""Every stable code that the program can answer, read out of its source.

A code is a text that stands where codes stand: as ``code`` of a call or a variable, as a class's
``default_code``, in a parameter called ``code`` of a function of the same module or one imported
into it, first in a `Problem` or an outcome, and in the registries of codes. Codes that are put
together, such as ``f"invalid_{name}"``, are families: ``invalid_<member>``.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args, get_type_hints

from adapters.http.problems import HttpProblem, status_of
from adapters.http.stream.frames import ResumeFailed
from ledger.application.keyring import _REASONS
from ledger.domain.errors import LedgerError, Unavailable
from ledger.domain.hold_codes import CODES

ROOT = Path(__file__).parents[2]
_CODE = re.compile(r"[a-z]+(_[a-z0-9]+)+|[a-z]+")
_ELSEWHERE = re.compile(
    r"ledger/application/(replay|verify\w*)\.py"  # differences: docs/spec/audit.md
    r"|adapters/cli/db\.py"  # says what it did, in words
    r"|adapters/client/litellm\.py"  # has none, and takes seconds to import
)
_OUTCOMES = ("Outcome", "Problem", "Reason", "reason")
_RESUME = get_args(get_type_hints(ResumeFailed)["code"])
_Function = ast.FunctionDef | ast.AsyncFunctionDef


class Found:
    """What the source says of codes.

    Attributes:
        places: of each code, files that know it.
        errors: of each code, the classes of errors that are raised with it.
    """

    def __init__(self) -> None:
        self.places: dict[str, set[str]] = {}
        self.errors: dict[str, set[type[LedgerError]]] = {}

    def add(self, code: str, place: str, error: type[LedgerError] | None = None) -> None:
        """Take note of a code."""
        name = re.sub(r"_<\w+>$", "_<member>", code)
        if name.endswith("_<member>") or _CODE.fullmatch(name):
            self.places.setdefault(name, set()).add(place)
            if error is not None:
                self.errors.setdefault(name, set()).add(error)

    def statuses(self, code: str) -> set[int]:
        """Return the HTTP statuses of the errors that are raised with a code."""
        return {
            status_of(
                HttpProblem("", code=code) if error is HttpProblem else _made(error, code=code)
            )
            for error in self.errors.get(code, ())
        }

    def exits(self, code: str) -> set[int]:
        """Return the exit codes of a command that ends with a code."""
        return {1 if issubclass(error, Unavailable) else 2 for error in self.errors.get(code, ())}


def _made(error: type[LedgerError], *, code: str) -> LedgerError:
    made = error.__new__(error)
    LedgerError.__init__(made, "", code=code)
    return made


def collect() -> Found:
    """Read all source."""
    found = Found()
    for folder in ("ledger", "adapters"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if not _ELSEWHERE.fullmatch(name):
                _Module(name, found).read()
    for code in (*_REASONS, *(one for codes in CODES.values() for one in codes), *_RESUME):
        found.add(code, "registry")
    return found


class _Module:
    """Reads one module's source."""

    def __init__(self, name: str, found: Found) -> None:
        self._name = name
        self._found = found
        self._tree = ast.parse((ROOT / name).read_text("utf-8"))
        # A module that is not imported by anybody has no errors that anybody could meet.
        dotted = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        self._live = vars(importlib.import_module(dotted))
        self._functions = {
            one.name: one for one in ast.walk(self._tree) if isinstance(one, _Function)
        }

    def read(self) -> None:
        """Take note of all codes in it."""
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Call):
                self._call(node)
            elif isinstance(node, ast.Assign):
                self._assigned(node.targets, node.value)
            elif isinstance(node, ast.AnnAssign) and node.value is not None:
                self._assigned([node.target], node.value)
        for value in self._live.values():
            if (
                isinstance(value, type)
                and issubclass(value, LedgerError)
                and value.__module__ == self._live["__name__"]
            ):
                self._found.add(value.default_code, self._name, value)

    def _assigned(self, targets: list[ast.expr], value: ast.expr) -> None:
        for target in targets:
            if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                for one, part in zip(target.elts, value.elts, strict=True):
                    self._assigned([one], part)
            elif isinstance(target, ast.Name) and target.id in ("code", "default_code"):
                self._note(value, None)

    def _call(self, node: ast.Call) -> None:
        called = node.func
        name = getattr(called, "id", getattr(called, "attr", ""))
        error = self._error(name)
        for keyword in node.keywords:
            if keyword.arg == "code":
                self._note(keyword.value, error)
        if name in _OUTCOMES and node.args:
            self._note(node.args[0], None)
            return
        place = self._place_of_code(name)
        if place is not None and place < len(node.args):
            self._note(node.args[place], error)

    def _error(self, name: str) -> type[LedgerError] | None:
        """Return the class of error that a call makes: its own, or as the function says."""
        function = self._functions.get(name)
        if function is not None and isinstance(function.returns, ast.Name):
            name = function.returns.id
        value = self._live.get(name)
        if not isinstance(value, type):
            hint = getattr(value, "__annotations__", {}).get("return")
            home = importlib.import_module(value.__module__) if isinstance(hint, str) else None
            value = getattr(home, str(hint), None)
        return value if isinstance(value, type) and issubclass(value, LedgerError) else None

    def _place_of_code(self, name: str) -> int | None:
        function = self._functions.get(name)
        if function is not None:
            names = [one.arg for one in (*function.args.posonlyargs, *function.args.args)]
            names = names[1:] if names[:1] in (["self"], ["cls"]) else names
        else:
            value = self._live.get(name)
            if not callable(value) or isinstance(value, type):
                return None
            code = getattr(value, "__code__", None)
            names = list(code.co_varnames[: code.co_argcount]) if code is not None else []
        return names.index("code") if "code" in names else None

    def _note(self, value: ast.expr, error: type[LedgerError] | None) -> None:
        for code in self._texts(value):
            self._found.add(code, self._name, error)

    def _texts(self, value: ast.expr) -> Iterator[str]:
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            yield value.value
        elif isinstance(value, ast.IfExp):
            yield from self._texts(value.body)
            yield from self._texts(value.orelse)
        elif isinstance(value, ast.BoolOp):
            for one in value.values:
                yield from self._texts(one)
        elif isinstance(value, ast.JoinedStr):
            first = value.values[0]
            if isinstance(first, ast.Constant) and str(first.value) != "key_":
                yield f"{first.value}<member>"
        elif isinstance(value, ast.Name) and isinstance(self._live.get(value.id), str):
            yield self._live[value.id]
