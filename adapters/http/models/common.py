"""Parts that documents share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

DECIMAL_PATTERN = r"^-?[0-9]+(\.[0-9]+)?$"

Amount = Annotated[
    str, Field(pattern=DECIMAL_PATTERN, description="Plain decimal text.", examples=["0.25"])
]
"""An amount or a quantity in an answer."""
Text = Annotated[str, Field(max_length=256)]
Name = Annotated[str, Field(min_length=1, max_length=256)]
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Number = Annotated[
    str | int | float,
    Field(description="A plain decimal, best as text, at least 0.", examples=["1200"]),
]
"""A number in a request: text is exact whatever the client's JSON library does."""
Quantities = Annotated[
    dict[str, Number],
    Field(
        description="Quantity by meter; disjoint leaves (docs/spec/metering.md).",
        examples=[{"tokens.input": "1200", "tokens.output": "350"}],
    ),
]


class Request(BaseModel):
    """A document that a client sends; unknown members are refused."""

    model_config = ConfigDict(extra="forbid")


class Answered(BaseModel):
    """A document that the server answers; later versions may add members."""

    model_config = ConfigDict(extra="allow")


class TenantRequest(Request):
    """A document in which a key of the platform may name the tenant."""

    tenant: Name | None = None


JsonObject = dict[str, Any]
