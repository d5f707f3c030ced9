"""The options that say which call is meant: one list for every command that asks about one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from functools import wraps
from typing import Annotated, Any

import typer

from adapters.cli.protection_output import QuantityOption, document, pairs

EXAMPLE = "tokens.input=1000"
"""Of a quantity."""
AmountOption = Annotated[
    str, typer.Option("--amount", help="Charge, or available for all that is left.")
]
_PLACE = "call"


def _call(
    *,
    provider: Annotated[str, typer.Option(help="To be called.")] = "",
    model: Annotated[str, typer.Option(help="To be called.")] = "",
    quantity: QuantityOption = None,
    amount: AmountOption = "",
    min_amount: Annotated[str, typer.Option(help="Least that is worth having.")] = "",
    user: Annotated[str, typer.Option(help="Who calls.")] = "",
    project: Annotated[str, typer.Option()] = "",
    api_key: Annotated[str, typer.Option(help="Alias of the caller's key.")] = "",
    session: Annotated[str, typer.Option()] = "",
    plugin: Annotated[str, typer.Option()] = "",
    label: Annotated[list[str] | None, typer.Option(help="NAME=VALUE.")] = None,
    tool: Annotated[list[str] | None, typer.Option(help="That may be used.")] = None,
    tier: Annotated[str, typer.Option(help="Service tier.")] = "",
    region: Annotated[str, typer.Option()] = "",
    batch: Annotated[bool, typer.Option("--batch", help="At the batch price.")] = False,
    byok: Annotated[bool, typer.Option("--byok", help="With the tenant's key.")] = False,
) -> dict[str, object]:
    """Return the members of an ask that say which call is meant."""
    return document(
        provider=provider,
        model=model,
        quantities=pairs(quantity, "--quantity", EXAMPLE),
        amount=amount,
        min_amount=min_amount,
        user=user,
        project=project,
        api_key=api_key,
        session=session,
        plugin=plugin,
        labels=pairs(label, "--label", "team=blue"),
        tools=tool,
        tier=tier,
        region=region,
        batch=batch,
        byok=byok,
    )


def with_call_options(
    command: Callable[..., None], *, without: Collection[str] = ()
) -> Callable[..., None]:
    """Return a command with the options of a call; it is given them as a document, ``call``.

    Args:
        command: with a keyword parameter ``call``, in whose place the options stand.
        without: parameters of options that make no sense for it.
    """
    shared = {
        name: option
        for name, option in inspect.signature(_call, eval_str=True).parameters.items()
        if name not in without
    }
    parameters: list[inspect.Parameter] = []
    for name, own in inspect.signature(command, eval_str=True).parameters.items():
        parameters += shared.values() if name == _PLACE else [own]

    @wraps(command)
    def run(**given: Any) -> None:
        call = _call(**{name: given.pop(name) for name in shared})
        command(**given, **{_PLACE: call})

    # Typer reads a command's options from these two.
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined] # any function may have one
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run
