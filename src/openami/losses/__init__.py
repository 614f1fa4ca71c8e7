"""Where the energy goes: the balance of transformers and feeders, always with its coverage, and what stands out in it.

In: one shard's validated day block of `import_wh` with its quality, and the shard's `ShardIndex`.
Out: integer Wh per node and hour and day (`balance`), nodes whose loss stands out (`loss_outliers`), and what the chapters below find.

    network.py     the tree of nodes on a day, which meter hangs where, and what contradicts itself in the records
    metered.py     what meters say over spans, and how far they may be off
    sums.py        what is known of the energy at each node, by its own meter and carried up from below
    account.py     the energy account of every node and span, with its interval and where the spread comes from
    above.py       substations, divisions and the company from the sums of several shards
    half_width.py  how far to both sides of the likely loss nine in ten lie
    months.py      accounts of several stretches put together by node
    balance.py     in, out, loss and coverage of every transformer and feeder, and whose loss stands out
    grid.py        technical loss by power flow; pandapower_grid.py and opendss.py: networks read from others
    fitted.py      technical loss where no network model is known
    atc.py         AT&C loss by the year's method; quarterly.py: the quarterly energy account as a file
    outages.py     gasps, breaths and silence to outages; reliability.py: SAIFI, SAIDI, CAIDI, MAIFI, and intervals for VEE
    mapping.py     on which transformer and phase a meter really hangs; mapping_energy.py: what energies say of it
    features.py    what can be said of each consumer; suspects.py: whom to visit first, why, and what else it could be
    loading.py     loading against rating, unbalance, power factor, voltage, headroom; forecast.py: the day ahead with quantiles;
                   contest.py: by which method
    rollup.py      demand per slot of transformers, feeders, divisions and the company; peak, load factor, completeness

What always holds:
- in = out + loss to the Wh, wherever in and out are known; what is not known is `MISSING64`, never 0;
- a loss is never clamped: a negative one (somebody mapped here who hangs elsewhere) is a finding, not an error;
- a loss never travels without its coverage: the share of the energy and of the intervals that was truly metered.
"""

from .balance import MISSING64, Balance, NodeBalance, balance, loss_outliers

__all__ = [
    "MISSING64",
    "Balance",
    "NodeBalance",
    "balance",
    "loss_outliers",
]
