"""`Quality` as IEC 61968-9 quality codes ("system.category.index").

The system is 3 (meter data management) except for what the meter itself reports (1, end device). The catalogue is not free of charge;
the numbers here are from two public sources: a vendor's open-source enumeration of categories and indexes (Connexo, `QualityCodeIndex`)
and a published interface table (Netstream, "Reading Quality Flags"). `verify` = only one of them has it, or the nearest code was chosen
because the catalogue as published there has none for the check.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..readings import Quality


@dataclass(frozen=True, slots=True)
class QualityCode:
    """An IEC 61968-9 quality code; `text` such as "3.8.0", `meaning` in our words, `verify` = not confirmed by two sources."""

    text: str
    meaning: str
    verify: bool


QUALITY_CODES: dict[Quality, QualityCode] = {
    Quality.VALID: QualityCode("3.0.0", "valid", False),
    Quality.MISSING: QualityCode("3.5.259", "known missing", False),
    Quality.DUPLICATE: QualityCode("3.5.258", "suspect", True),
    Quality.OUT_OF_DAY: QualityCode("3.6.0", "failed validation", True),
    Quality.SPIKE: QualityCode("3.6.3", "failed validation: usage above maximum", True),
    Quality.SUM: QualityCode("3.6.0", "failed validation", False),
    Quality.HIGH_LOW: QualityCode("3.6.5", "failed validation: usage above maximum percentage (below minimum is 3.6.6)", True),
    Quality.PLAUSIBILITY: QualityCode("3.5.256", "data outside expected range", True),
    Quality.FROZEN: QualityCode("3.3.5", "static data", True),
    Quality.ZERO: QualityCode("3.6.1", "failed validation: zero usage", True),
    Quality.VOLTAGE_ENERGY: QualityCode("3.6.0", "failed validation", False),
    Quality.REVERSE: QualityCode("3.3.4", "reverse rotation", True),
    Quality.CLOCK_DRIFT: QualityCode("3.1.9", "clock error", True),
    Quality.INACTIVE_METER: QualityCode("3.6.2", "failed validation: usage on inactive meter", True),
    Quality.METER_EXCHANGE: QualityCode("3.4.6", "configuration changed", True),
    Quality.OUTAGE: QualityCode("1.2.32", "power failure", False),
    Quality.ESTIMATED_LINEAR: QualityCode("3.8.0", "estimated", True),
    Quality.ESTIMATED_LIKE_DAY: QualityCode("3.8.0", "estimated", True),
    Quality.ESTIMATED_CLASS_PROFILE: QualityCode("3.8.0", "estimated", True),
    Quality.SCALED_TO_REGISTER: QualityCode("3.8.0", "estimated", True),
    Quality.EDITED: QualityCode("3.7.0", "edited by a person", False),
}


def codes(quality: int) -> tuple[QualityCode, ...]:
    """The codes of one reading's quality bits, each text once, in the order of the bits; (valid,) for 0."""
    if quality == 0:
        return (QUALITY_CODES[Quality.VALID],)
    found = [QUALITY_CODES[q] for q in Quality if q and quality & q]
    return tuple({c.text: c for c in reversed(found)}[t] for t in dict.fromkeys(c.text for c in found))
