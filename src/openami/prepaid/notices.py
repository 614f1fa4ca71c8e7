"""Low-balance notices: who is told what, by policy data, in the account's language.

What always holds: an account gets each level once until its balance rises above it again; when several levels are reached, the
gravest is told; a text names the balance as the consumer sees it, and what to do.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError, RequestError
from ..money import rupees
from ..readings import Bool, Int64

Int8 = npt.NDArray[np.int8]
KINDS = ("days_left", "percent_left", "balance")


@dataclass(frozen=True, slots=True)
class Level:
    """Reached when the balance would last `at` days of recent use, is at most `at` % of the last recharge, or is at most `at` paise.

    `text`: the name of its sentence in `data/notices.toml`."""

    kind: str
    at: int
    text: str


@dataclass(frozen=True, slots=True)
class NoticePolicy:
    """A utility's levels, mildest first; source and verify as everywhere."""

    name: str
    levels: tuple[Level, ...]
    source: str
    verify: str


@dataclass(frozen=True, slots=True)
class Notices:
    """level: int8 [account], the gravest level reached now, -1 = none (to be kept for the next day's `told`); send: bool [account],
    whether it is new and so to be told; days_left: int64 [account], whole days the balance lasts, -1 = cannot be said (no use)."""

    level: Int8
    send: Bool
    days_left: Int64


def low_balance(
    policy: NoticePolicy, balance_paise: Int64, recent_charges_paise: Int64, last_recharge_paise: Int64, told: Int8, prepaid: Bool
) -> Notices:
    """Who is low after today's charge.

    balance_paise, last_recharge_paise: int64 [account] (last recharge 0 = none); recent_charges_paise: int64 [day, account], the last
    days' totals; told: int8 [account], the level last told (-1 = none); prepaid: bool [account].

    Days on which nothing was taken do not count: while a month's free units last each costs 0, and an account that has just used them
    up would seem to last seven times as long as it does.
    """
    accounts = balance_paise.size
    if recent_charges_paise.ndim != 2 or recent_charges_paise.shape[1] != accounts or recent_charges_paise.shape[0] == 0:
        raise RequestError(
            f"{accounts} balances, but recent charges are {recent_charges_paise.shape}; give at least one day [day, account]"
        )
    days, used = np.count_nonzero(recent_charges_paise, axis=0), recent_charges_paise.sum(axis=0)
    left = np.where(used > 0, np.maximum(balance_paise, 0) * days // np.maximum(used, 1), -1).astype(np.int64)
    level = np.full(accounts, -1, np.int8)
    for k, step in enumerate(policy.levels):
        if step.kind == "days_left":
            reached = (left >= 0) & (left <= step.at)
        elif step.kind == "percent_left":
            reached = (last_recharge_paise > 0) & (balance_paise * 100 <= last_recharge_paise * step.at)
        else:
            reached = balance_paise <= step.at
        level[reached & prepaid] = k
    return Notices(level, level > told, left)


def notice_text(level: Level, language: str, balance_paise: int, days_left: int) -> str:
    """The sentence for an account: Hindi for "hi", else English. days_left < 0: the sentence without days is used."""
    texts = _data()["text"]
    name = "low" if level.text == "days" and days_left < 0 else level.text
    template: str = texts[name]["hi" if language == "hi" else "en"]
    return template.format(balance=rupees(balance_paise), days=max(0, days_left))


def load_notice_policies() -> dict[str, NoticePolicy]:
    """The shipped policies by name. Raises InputError naming the policy and the key for one that cannot be used."""
    data = _data()
    return {name: _policy(name, raw, data["text"]) for name, raw in data["policy"].items()}


def _policy(name: str, raw: dict[str, Any], texts: dict[str, Any]) -> NoticePolicy:
    levels = []
    for k, item in enumerate(raw["levels"]):
        where = f"notices.toml, policy {name}, level {k + 1}"
        if item.get("kind") not in KINDS or not isinstance(item.get("at"), int) or item.get("text") not in texts:
            raise InputError(f"{where}: give kind (one of {', '.join(KINDS)}), at (a whole number) and text (one of {', '.join(texts)})")
        levels.append(Level(item["kind"], item["at"], item["text"]))
    if not raw.get("source") and not raw.get("verify"):
        raise InputError(f"notices.toml, policy {name}: give a source, or verify")
    return NoticePolicy(name, tuple(levels), raw.get("source", ""), raw.get("verify", ""))


@lru_cache(maxsize=1)
def _data() -> dict[str, Any]:
    return tomllib.loads(resources.files(__package__).joinpath("data/notices.toml").read_text("utf-8"))
