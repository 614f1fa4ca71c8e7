"""The daily statement: opening + recharges - charges - adjustments = closing, to the paisa, for all accounts at once.

What always holds: closing_paise is computed from the printed numbers alone; an account whose charge could not be computed is
`pending`: nothing is charged, and the statement says so instead of showing a zero as if it were the truth.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import numpy as np

from ..errors import RequestError
from ..money import ChargeRow
from ..readings import Bool, Int64


@dataclass(frozen=True, slots=True)
class Statements:
    """One day's statements. int64 paise [account], charge_paise [line, account] and adjustments_paise (> 0 is taken, < 0 given); pending bool
    [account]. An adjustment puts an earlier day's charge right."""

    lines: tuple[str, ...]
    opening_paise: Int64
    recharges_paise: Int64
    charge_paise: Int64
    closing_paise: Int64
    pending: Bool
    adjustments_paise: Int64

    @property
    def charges_paise(self) -> Int64:
        """int64 [account]: the sum of the charge lines."""
        return np.asarray(self.charge_paise.sum(axis=0), np.int64)

    def charge_rows(self, accounts: tuple[str, ...], day: date) -> Iterator[ChargeRow]:
        """The charge rows to post for `day`, account by account; lines of 0 are left out. accounts: their numbers, in array order."""
        for k, account in enumerate(accounts):
            for n, line in enumerate(self.lines):
                if self.charge_paise[n, k]:
                    yield ChargeRow(account, day, line, int(self.charge_paise[n, k]))


def daily_statements(
    opening_paise: Int64,
    recharges_paise: Int64,
    charge_paise: Int64,
    lines: tuple[str, ...],
    pending: Bool | None = None,
    adjustments_paise: Int64 | None = None,
) -> Statements:
    """Statements of one day.

    opening_paise, recharges_paise: int64 [account], recharges >= 0 unless one was reversed; charge_paise: int64 [line, account] named
    by `lines`, as `billing.charge` gives them; pending: bool [account], charges that could not be computed (their lines must be 0);
    adjustments_paise: int64 [account], what earlier days' charges are put right by, None = nothing.
    Raises RequestError where shapes do not fit or a pending account has a charge.
    """
    accounts = opening_paise.size
    if recharges_paise.shape != (accounts,) or charge_paise.shape != (len(lines), accounts):
        raise RequestError(
            f"{accounts} opening balances, but recharges are {recharges_paise.shape} and charges {charge_paise.shape} for {len(lines)} lines; "
            f"give one column for every account"
        )
    held = np.zeros(accounts, np.bool_) if pending is None else pending
    adjusted = np.zeros(accounts, np.int64) if adjustments_paise is None else adjustments_paise
    if adjusted.shape != (accounts,):
        raise RequestError(f"{accounts} opening balances, but adjustments are {adjusted.shape}; give one for every account")
    if charge_paise[:, held].any():
        first = int(np.flatnonzero(held & (charge_paise != 0).any(axis=0))[0])
        raise RequestError(f"account at position {first} is pending, yet it has a charge; a refused bill has only zeros")
    closing = opening_paise + recharges_paise - charge_paise.sum(axis=0) - adjusted
    return Statements(lines, opening_paise, recharges_paise, charge_paise, np.asarray(closing, np.int64), held, adjusted)
