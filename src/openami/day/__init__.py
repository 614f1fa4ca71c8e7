"""The whole way of a day, from frames to rupees and losses.

frame  --headend-->  journal  --collect-->  raw  --vee-->  validated  --billing-->  charges  --prepaid-->  statements
                                                                   \\--losses-->  balance

site.py      an open data folder: settings, registry, lake
collect.py   the journal read on into day grids, written as `raw`
gathered.py  what was collected so far, put away: a stop costs only what came after
close.py     one (day, shard) from raw to the last rupee and the last Wh of loss
validate.py  raw readings, days before and registry to validated day blocks
known.py     what VEE is told beside raw: whose rules, facts, people's edits
edit.py      a person corrects a reading, and the day is reckoned again
terms.py     another tariff or contract demand is told, and closed days are reckoned again
roll.py      the accounts of a shard as arrays
quantities.py what a tariff prices of a day: energy by period, exports set off, the maximum demand
charge.py    the money part of closing: month to date, charge lines, the daily statement
registered.py daily registers told to VEE: what each rose from midnight to midnight
moved.py     what moved balances on a day beside its charges, of every shard at once
tell.py      after the statements: low-balance notices, and who would be due for disconnection
balance.py   the loss of transformers and feeders as rows
meter_day.py what the day says of each meter, counted: what consoles and lists go by
network.py   the network as the audit takes it: the registry, and what the folder `network` adds
upward.py    nodes above a shard, on which other shards' feeders hang too; shares.py: what each shard keeps for them, joined
written.py   files that people write beside the data, read line by line or refused by line
meter_errors.py how far each meter may be off, and how doubtful its place is
outages.py   what meters told of their supply made into outages, and facts for VEE
audit.py     the energy account of closed days, with intervals, when it is asked for
running.py   the same of a day that is not closed yet, by the hour, from what has come so far; so_far.py: of one shard
findings.py  the energy audit written down behind the close
suspected.py looking back over the last days: suspects, true places; technical.py: what wires lose; loaded.py: how transformers fare
span.py      a few feeders' measured values over days; signs.py: what speaks about each consumer of them
sold.py      what each feeder took in, sold and was paid: the books of AT&C loss; tomorrow.py: the next day's demand
inspected.py what inspections found, and the suspicions that learn from it
found.py     what the energy audit keeps of closed days, to be read: accounts, outages, suspects, proposals, loading
found_files.py the same as Parquet or CSV files
adjust.py    readings that come after the close: reckoned again, charged as adjustments
books.py     statements and the ledger tied: totals kept, charges brought in, what a balance showed then
bills.py     closed days billed to postpaid accounts
closes.py    which day is closed, by which readings
why.py       why an account's day cost what it did: from registers and intervals to the rupees of its statement
told.py      what the tables have of one account's day; metered.py: the registers and intervals that it began with
lines.py     the tables of money told line by line
stages.py    the close as a stage, for engines
buffers.py   room for large arrays, used again from shard to shard
"""

from .close import close, close_all
from .collect import collect
from .site import Site

__all__ = ["Site", "close", "close_all", "collect"]
