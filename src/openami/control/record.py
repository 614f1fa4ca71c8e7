"""A decision of the guard written down with everything that it rested on, and made again from what was written.

What always holds: facts written and read are the same facts; what was decided once is decided again alike from the same record, as long as the
policy of that day stands as it stood.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from datetime import date, datetime
from typing import Any

from ..errors import DataError
from .guard import Decision, Reason, decide
from .policy import PolicyBook
from .rules import NEVER, Facts, Never


@dataclass(frozen=True, slots=True)
class Again:
    """A decision made again. same: it is the one that was written; differ: the codes of the rules that answer otherwise now."""

    decision: Decision
    same: bool
    differ: tuple[str, ...]


def facts_text(facts: Facts) -> str:
    """As JSON; NEVER, instants and days are marked as such, what is not known is null."""
    return json.dumps({field.name: _written(getattr(facts, field.name)) for field in fields(facts)}, ensure_ascii=False)


def read_facts(text: str) -> Facts:
    """What `facts_text` wrote. DataError where it was not that."""
    try:
        told = json.loads(text)
        return Facts(**{name: _read(value) for name, value in told.items()})
    except (TypeError, ValueError, KeyError) as error:
        raise DataError(f"these are no facts of a decision ({error}); restore the database from a backup") from None


def reasons_text(decision: Decision) -> str:
    """Every rule that was asked, with its answer, both sentences and its source, as JSON."""
    return json.dumps([{name: getattr(r, name) for name in Reason.__slots__} for r in decision.reasons], ensure_ascii=False)


def against_text(decision: Decision) -> str:
    """The codes that stood in the way, "?" behind one that was not known."""
    return " ".join(reason.code + ("?" if reason.ok is None else "") for reason in decision.against)


def again(book: PolicyBook, policy: str, now_local: datetime, facts: str, reasons: str) -> Again:
    """The decision from its record: policy by name as it holds on that day, the facts as written, the same local time."""
    made = decide(book.on(policy, now_local.date()), read_facts(facts), now_local)
    before = {one["code"]: one["ok"] for one in json.loads(reasons)}
    now = {one.code: one.ok for one in made.reasons}
    differ = tuple(sorted(code for code in before.keys() | now.keys() if before.get(code, "-") != now.get(code, "-")))
    return Again(made, not differ, differ)


def _written(value: Any) -> Any:
    if isinstance(value, Never):
        return {"never": True}
    if isinstance(value, datetime):
        return {"at": value.isoformat()}
    return {"day": value.isoformat()} if isinstance(value, date) else value


def _read(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if "never" in value:
        return NEVER
    return datetime.fromisoformat(value["at"]) if "at" in value else date.fromisoformat(value["day"])
