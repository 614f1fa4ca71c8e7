"""What moved balances on a day beside its charges: recharges and the like of every shard, read once for a close and found by account."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..readings import Bool, Int64
from ..store.ledger import Ledger
from .roll import Roll
from .site import Site


@dataclass(frozen=True, slots=True)
class Moved:
    """A row per transfer, each account's in the order of posting: the account, the paise that its balance gained (< 0 = lost), and whether it is
    a recharge."""

    account: pa.Array
    paise: Int64
    recharge: Bool

    def sums(self, roll: Roll) -> Int64:
        """int64 [account]: what each balance gained [paise]."""
        found, at = np.zeros(len(roll), np.int64), self._places(roll)
        np.add.at(found, at[at >= 0], self.paise[at >= 0])
        return found

    def recharges(self, roll: Roll) -> Int64:
        """int64 [account]: each account's newest recharge [paise], 0 = none."""
        found, at = np.zeros(len(roll), np.int64), self._places(roll)
        own = (at >= 0) & self.recharge
        found[at[own]] = self.paise[own]  # of several the last one stays
        return found

    def _places(self, roll: Roll) -> Int64:
        """int64 [transfer]: where each one's account stands in the roll, -1 = not there. The few are hashed, and the many looked up."""
        if not len(self.account):
            return np.zeros(0, np.int64)
        moved = self.account.dictionary_encode()
        known = pc.index_in(roll.numbers, moved.dictionary)
        found = np.full(len(moved.dictionary), -1, np.int64)
        found[known.drop_null().to_numpy()] = np.flatnonzero(known.is_valid().to_numpy(zero_copy_only=False))
        return np.asarray(found[moved.indices.to_numpy()], np.int64)


def moved_on(site: Site, day: date) -> Moved:
    """Of a local day, as the ledger has it now."""
    account, paise, recharge = Ledger(site.rows.database).moved(day)
    return Moved(pa.array(account, pa.string()), np.array(paise, np.int64), np.array(recharge, np.bool_))
