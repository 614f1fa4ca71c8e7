"""The whole way of a day, from frames to rupees and losses.

frame  --headend-->  journal  --collect-->  raw  --vee-->  validated  --billing-->  charges  --prepaid-->  statements
                                                                   \\--losses-->  balance

site.py      an open data folder: settings, registry, lake
collect.py   the journal replayed into day grids, written as `raw`
close.py     one (day, shard) from raw to the last rupee and the last Wh of loss
roll.py      the accounts of a shard as arrays
charge.py    the money part of closing: month to date, charge lines, the daily statement
tell.py      after the statements: low-balance notices, and who would be due for disconnection
"""

from .close import close, close_all
from .collect import collect
from .site import Site

__all__ = ["Site", "close", "close_all", "collect"]
