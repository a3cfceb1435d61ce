"""Doses: how much of a medicine an order gives in a day, and for how many days (row P24).

Only structured data is read: a dose in a unit of mass, how often it is taken, and until when. A
dose such as "one tablet" is not a mass and is not counted. Free text is not read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .chart import Resource

# Factors to mg and to hours, by UCUM unit.
MG = {"mg": 1.0, "g": 1000.0, "ug": 0.001, "mcg": 0.001}
HOURS = {"s": 1 / 3600, "min": 1 / 60, "h": 1.0, "d": 24.0, "wk": 168.0, "mo": 720.0, "a": 8760.0}
# Doses in a day, by code of http://terminology.hl7.org/CodeSystem/v3-GTSAbbreviation.
A_DAY = {"QD": 1.0, "AM": 1.0, "PM": 1.0, "BED": 1.0, "BID": 2.0, "TID": 3.0, "QID": 4.0}
A_DAY |= {"Q4H": 6.0, "Q6H": 4.0, "Q8H": 3.0, "QOD": 0.5, "WK": 1 / 7, "MO": 1 / 30}
MOST_INSTRUCTIONS = 50  # that are read of one order; further ones are ignored


@dataclass(frozen=True, slots=True)
class Dose:
    """The largest amount that an order gives in a day, in mg, and for how many days.

    A number is ``None`` if the order does not say it.
    """

    daily: float | None = None
    days: float | None = None

    def and_most_of(self, other: Dose) -> Dose:
        """The larger daily amount and the larger number of days of two doses."""
        return Dose(_most((self.daily, other.daily)), _most((self.days, other.days)))


NO_DOSE = Dose()


def dose_of(order: Resource) -> Dose:
    """The dose of a MedicationRequest; the largest numbers of its instructions count."""
    instructions = order.get("dosageInstruction")
    told = instructions[:MOST_INSTRUCTIONS] if isinstance(instructions, list) else []
    told = [each for each in told if isinstance(each, dict)]
    lengths = [
        *map(_days_of, told),
        _days(_dict(order, "dispenseRequest", "expectedSupplyDuration")),
    ]
    return Dose(_most(map(_daily_of, told)), _most(lengths))


def _most(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _daily_of(instruction: dict[str, object]) -> float | None:
    """The largest amount that one instruction gives in a day, in mg; ``None`` if it is not known.

    This is dose times frequency, or ``maxDosePerPeriod`` if that is less or stands alone.
    """
    often = _a_day(_dict(instruction, "timing"))
    once = _most(_doses_of(instruction))
    most = _dict(instruction, "maxDosePerPeriod")
    of, period = _mass(_dict(most, "numerator")), _days(_dict(most, "denominator"))
    at_most = of / period if of is not None and period else None
    planned = once * often if once is not None and often is not None else None
    if planned is not None and at_most is not None:
        return min(planned, at_most)
    return planned if planned is not None else at_most


def _doses_of(instruction: dict[str, object]) -> Iterator[float | None]:
    rates = instruction.get("doseAndRate")
    for rate in rates[:MOST_INSTRUCTIONS] if isinstance(rates, list) else ():
        yield _mass(_dict(rate, "doseQuantity"))
        yield _mass(_dict(rate, "doseRange", "high"))


def _a_day(timing: dict[str, object]) -> float | None:
    """Doses in a day by ``timing.repeat``, or else by ``timing.code``; ``None`` if not known."""
    repeat = _dict(timing, "repeat")
    period, hours = _number(repeat.get("period")), HOURS.get(str(repeat.get("periodUnit")))
    if period is not None and hours is not None:
        often = _number(repeat.get("frequencyMax")) or _number(repeat.get("frequency")) or 1.0
        return often * 24 / (period * hours)
    codings = _dict(timing, "code").get("coding")
    codes = (
        [c.get("code") for c in codings if isinstance(c, dict)] if isinstance(codings, list) else []
    )
    return _most(A_DAY.get(str(code)) for code in codes)


def _days_of(instruction: dict[str, object]) -> float | None:
    repeat = _dict(instruction, "timing", "repeat")
    bounds = _dict(repeat, "boundsPeriod")
    try:
        start, end = (date.fromisoformat(str(bounds[each])[:10]) for each in ("start", "end"))
        between: float | None = float((end - start).days)
    except (KeyError, ValueError):
        between = None
    lengths = (_dict(repeat, "boundsDuration"), _dict(repeat, "boundsRange", "high"))
    return _most([between, *map(_days, lengths)])


def _mass(quantity: dict[str, object]) -> float | None:
    """A quantity in mg; ``None`` if it is not a mass."""
    value = _number(quantity.get("value"))
    factor = MG.get(str(quantity.get("code") or quantity.get("unit")))
    return value * factor if value is not None and factor is not None else None


def _days(quantity: dict[str, object]) -> float | None:
    """A duration in days; ``None`` if it is not a duration."""
    value = _number(quantity.get("value"))
    hours = HOURS.get(str(quantity.get("code") or quantity.get("unit")))
    return value * hours / 24 if value is not None and hours is not None else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 1e-6 < value < 1e6 else None


def _dict(value: object, *path: str) -> dict[str, object]:
    """The JSON object at the end of a path of members; empty if there is none."""
    for member in path:
        value = value.get(member) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}
