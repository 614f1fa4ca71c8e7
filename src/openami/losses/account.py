"""The energy account of every node over any span, with an interval: what came in, what went out, and how well the difference is known.

In: validated Wh [slot, meter] (import, and export where there is any) with quality, the day's `Tree`, the meters' `Errors`.
Out: `Account`, arrays [span, node].

Two steps. `totals` adds each meter's readings up over spans of slots; totals of several days may be added (`MeterTotals.plus`), so that a
month is reckoned per meter before anything is said about a node. `account` then adds meters up along the tree (sums.py); what stands above
several shards is settled from sums alone (above.py).

What always holds:
- in + exports from below = out + loss to the Wh, wherever both are known (the ledger: `in_wh`, `out_wh`, `loss_wh`);
- `likely_wh` is the loss with what is missing put in at its expectation; the interval [low_wh, high_wh] lies around it;
- a node without a meter of its own has no loss; what hangs below it counts at the next node above, whose coverage falls;
- so does the coverage of a node that may feed another whose place the records contradict;
- the spread's parts stay apart (`Part`), so that a reader sees why an interval is wide.

The parts follow the law of propagation of uncertainty (JCGM 100, GUM, 5.1): a meter's class limit is a rectangular distribution that holds
for all its intervals together; clocks shift energy across the ends of the span only; what is filled or missing is known the better, the more
hours of it there are. How wide nine in ten lie follows from the distribution, not from the spread alone: half_width.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import RequestError
from ..readings import MISSING64, Int64
from .half_width import INSIDE, INSIDE_MOST, half_width
from .metered import Errors, MeterTotals
from .network import Float64, Tree
from .sums import Assessed, Part, Sums, climb, consumers, own_meters

__all__ = ["Account", "Assessed", "Part", "account", "settle"]


@dataclass(frozen=True, slots=True)
class Account:
    """All [span, node]. in_wh: the node's own import and what consumers below exported; out_wh: what went to consumers, nodes below and
    assessed loads, and the node's own export; loss_wh = in - out: int64, MISSING64 where unknown. It may be negative.
    likely_wh, low_wh, high_wh: float64, NaN where unknown. spread_wh: float64 [part, span, node], standard deviations; limit_wh: float64, the
    largest class limit of one meter; moves: float64, how many meters are expected to hang elsewhere (both for `half_width`).
    coverage: float64 0..1, the truly metered share of the balance, the weaker of its two sides; estimated_share: of in and out; 0..1.
    missing_wh: float64, the expectation of what is missing below; assessed_wh: int64.
    """

    tree: Tree
    in_wh: Int64
    out_wh: Int64
    loss_wh: Int64
    likely_wh: Float64
    low_wh: Float64
    high_wh: Float64
    spread_wh: Float64
    limit_wh: Float64
    moves: Float64
    coverage: Float64
    estimated_share: Float64
    missing_wh: Float64
    assessed_wh: Int64

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        return np.asarray(self.loss_wh != MISSING64, np.bool_)

    def percent(self) -> tuple[Float64, Float64, Float64]:
        """Likely, low and high loss as percent of what came in; NaN where unknown or nothing came in."""
        base = np.where(self.known & (self.in_wh > 0), self.in_wh.astype(np.float64), np.nan)
        return 100 * self.likely_wh / base, 100 * self.low_wh / base, 100 * self.high_wh / base


def account(
    tree: Tree, imported: MeterTotals, errors: Errors, interval_s: int, exported: MeterTotals | None = None, assessed: Assessed | None = None,
    inside: float = INSIDE,
) -> Account:  # fmt: skip
    """The account of every node of the tree. inside: the share of cases in which the interval shall hold the true loss.

    RequestError where arrays do not fit the tree. A node's own meter must have every interval of the span, else its loss is unknown.
    """
    if not 0 < inside <= INSIDE_MOST:
        raise RequestError(
            f"an interval that holds {inside:g} of the cases cannot be told; give a share above 0 and at most {INSIDE_MOST:g}"
        )
    spans, meters = imported.wh.shape
    if errors.class_limit.size != meters or tree.meter_node.size != meters or (exported and exported.wh.shape != imported.wh.shape):
        raise RequestError(
            f"tree of {tree.meter_node.size}, errors of {errors.class_limit.size}, readings of {meters} meters: give the same meters"
        )
    nodes = len(tree.names)
    if assessed is not None and assessed.wh.shape != (spans, nodes):
        raise RequestError(f"assessed loads are {assessed.wh.shape}, the account {(spans, nodes)} [span, node]; give one value each")
    own = own_meters(tree, imported, exported, errors, interval_s)
    direct, strays = consumers(tree, imported, exported, errors, interval_s, assessed)
    return settle(tree, own, climb(tree, own, direct, strays), inside)


def settle(tree: Tree, own: Sums, below: Sums, inside: float = INSIDE) -> Account:
    """The account of nodes whose own meters and what leaves them downward are summed up, both [span, node]."""
    known = own.known & below.known
    in_wh, out_wh = own.down_wh + below.up_wh, below.down_wh + own.up_wh
    likely = own.likely_wh - below.likely_wh
    spread = np.sqrt(below.variance + own.variance)
    limit = np.maximum(below.limit_wh, own.limit_wh)
    width = half_width(spread, Part.MAPPING, limit, below.moves, inside)
    out_truly = _share(below.measured_wh, below.down_wh + below.missing_wh, 1.0)
    in_truly = _share(own.measured_wh, own.down_wh, 1.0)
    return Account(
        tree=tree,
        in_wh=np.where(own.known, in_wh, MISSING64),
        out_wh=np.where(below.known, out_wh, MISSING64),
        loss_wh=np.where(known, in_wh - out_wh, MISSING64),
        likely_wh=np.where(known, likely, np.nan),
        low_wh=np.where(known, likely - width, np.nan),
        high_wh=np.where(known, likely + width, np.nan),
        spread_wh=spread,
        limit_wh=limit,
        moves=below.moves,
        coverage=np.where(known, np.clip(np.minimum(out_truly, in_truly), 0.0, 1.0), 0.0),
        estimated_share=_share(below.estimated_wh + own.estimated_wh, in_wh + out_wh, 0.0),
        missing_wh=below.missing_wh,
        assessed_wh=below.assessed_wh,
    )


def _share(part: npt.NDArray[np.number], whole: npt.NDArray[np.number], otherwise: float) -> Float64:
    """part / whole, `otherwise` where the whole is not above 0."""
    return np.asarray(np.divide(part, whole, out=np.full(whole.shape, otherwise), where=whole > 0))
