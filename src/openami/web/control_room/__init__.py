"""The control room below `/room`: how the whole deployment stands, each meter, orders, exceptions, events, losses; for operators and auditors.

    routes.py    the pages: who asks, for what, which page is filled
    acting.py    what changes anything: orders with a look before, readings corrected, mapping proposals, saved filters
    standing.py  how a closed day stands by feeder, reckoned once a version and kept; what the wall shows of this moment
    curves.py    a meter's days as curves, from days to years
    losses.py    the tree map, a transformer's day with its band, suspects
    levels.py    service levels: the clocks, the last days, what a day lacks by feeder and cause
    quality.py   a fortnight's readings by feeder and day: missing, estimated, flagged
    tariffs.py   tariffs as cards and through time; statements.py: a day's statements and their sums
    outages.py   a week of outages on a line and by day, one outage with who was out
    exports.py   the same as CSV and Parquet
    complaints.py what consumers complain of, and its answer
    people.py    who may sign in, with which role, to what; the audit trail
    names.py     what the room calls things; trail.py: what the audit trail wrote, in the reader's words

What always holds: no page reads all meters (pages go on by key, summaries are reckoned once a close and kept); every page reads without
JavaScript, which only brings it up to date and listens to keys; what lies outside a person's reach is not there.
"""

from .routes import open_control_room

__all__ = ["open_control_room"]
