"""Models of the HTTP API as the schema needs them."""

from __future__ import annotations

from collections import Counter
from importlib import import_module
from pkgutil import iter_modules

from pydantic import BaseModel

from adapters.http import models


def test_no_two_models_have_one_name() -> None:
    """The schema names its parts after them, so one would describe the answers of the other."""
    found = {
        member
        for module in iter_modules(models.__path__)
        for member in vars(import_module(f"{models.__name__}.{module.name}")).values()
        if isinstance(member, type) and issubclass(member, BaseModel)
    }
    assert len(found) > 50
    assert {
        name for name, times in Counter(one.__name__ for one in found).items() if times > 1
    } == set()
