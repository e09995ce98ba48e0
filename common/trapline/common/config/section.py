"""One table of `mesh.toml`: a frozen model that refuses unknown keys and wrong units."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Section(BaseModel):
    """Base of every configuration table. Keys name their unit: ``lease_s``, ``radius_deg``, ``limit_bytes``."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)


class ServiceSection(Section):
    """Base of a service's table. What the service reads and writes is said here, where a supervisor finds it."""

    reads: ClassVar[tuple[str, ...]] = ()
    """channels whose records it takes, each once"""
    writes: ClassVar[tuple[str, ...]] = ()
    """channels that it appends to, besides `status` and `dead_letters`"""

    essential: ClassVar[bool] = True
    """whether a mesh is broken without it: a run that shall end waits for it, and gives up when it cannot run"""

    stage: ClassVar[int] = 9
    """place in the flow of data, 0 at the telescope: who is upstream is stopped first"""

    replicas: int = Field(default=1, ge=0, description="processes of this service on this host; 0 leaves it out")


def quantity(unit: str) -> Callable[[Any], Any]:
    """Return a validator that takes a number in `unit`, or text such as ``"10 arcsec"`` in a unit of its kind."""

    def to_unit(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        # The environment has only text: a bare number there is one in `unit`, as in a file.
        with contextlib.suppress(ValueError):
            return float(value)
        # Half of all processes never see a quantity as text: they need not import the units.
        from astropy.units import Quantity

        try:
            amount: Any = Quantity(value).to_value(unit)
            return float(amount)
        except (TypeError, ValueError) as error:
            raise ValueError(f"expected a number in {unit}, or text such as '1 {unit}': {error}") from None

    return to_unit


Deg = Annotated[float, BeforeValidator(quantity("deg"))]
Seconds = Annotated[float, BeforeValidator(quantity("s"))]
Hertz = Annotated[float, BeforeValidator(quantity("Hz"))]
Bytes = Annotated[int, BeforeValidator(lambda value: _whole(quantity("byte")(value)))]


def _whole(value: Any) -> Any:
    """Return a number of bytes as an integer, unless it is none: then the model says so."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
