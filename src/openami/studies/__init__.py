"""Studies of losses: what the energy audit finds where the truth is known; each writes a page under docs/results.

    interval.py  how often the 90 % interval of a loss covers the true one
    physics.py   the audit's technical loss beside the power flow's
    mapping.py   where meters hang, against noise and span
    theft.py     six shapes of theft on a network of 5,373 customers
    outage.py    planted outages found with a fifth of the gasps lost
    demand.py    tomorrow's demand on real load, rolling origin
    pages.py     all of them as pages: `openami report losses`

Each study is seeded: the same seed gives the same page. Shipped or public networks and households only; what a study needs that is not
installed or not there is named in its page, never replaced by something invented.
"""
