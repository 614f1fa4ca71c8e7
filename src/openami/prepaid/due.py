"""Who would be due for disconnection: prepaid accounts below the floor. Being due cuts nobody: `control.decide` is asked for each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import RequestError
from ..readings import Bool, Int64


@dataclass(frozen=True, slots=True)
class Due:
    """account: int64 [due], positions, the largest shortfall first; shortfall_paise: int64 [due], what brings each back to the floor
    (old arrears not counted), always > 0."""

    account: Int64
    shortfall_paise: Int64


def due_for_disconnection(
    closing_paise: Int64, prepaid: Bool, pending: Bool, old_arrears_paise: Int64 | None = None, floor_paise: int = 0
) -> Due:
    """The accounts whose own prepaid balance is below `floor_paise`.

    closing_paise: int64 [account]; prepaid, pending: bool [account]: a postpaid or a pending account is never due here;
    old_arrears_paise: int64 [account] >= 0, how much of a negative balance comes from before prepaid (None: nothing).
    """
    accounts = closing_paise.size
    arrears = np.zeros(accounts, np.int64) if old_arrears_paise is None else old_arrears_paise
    if prepaid.shape != (accounts,) or pending.shape != (accounts,) or arrears.shape != (accounts,):
        raise RequestError(f"{accounts} balances, but prepaid is {prepaid.shape}, pending {pending.shape}, old arrears {arrears.shape}")
    own = closing_paise + np.maximum(arrears, 0)
    at = np.flatnonzero(prepaid & ~pending & (own < floor_paise))
    shortfall = floor_paise - own[at]
    order = np.argsort(-shortfall, kind="stable")
    return Due(at[order].astype(np.int64), shortfall[order].astype(np.int64))
