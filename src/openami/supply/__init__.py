"""Supply: from balance to light. What is due becomes notices, what the guard allows becomes orders, a payment becomes supply again.

    facts.py    what the platform knows of an account at this moment, for the guard: registry, statements, ledger, outbox, orders
    guard.py    the guard as the head-end asks it: every decision kept with its inputs, and made again from them
    due.py      who is due: told before, limited or cut where the guard allows it
    back.py     supply for those who owe nothing any more, however that came about
    changes.py  a tariff that will change, told before its first day
    complaints.py a complaint answered: closed, told, out of the guard's way
    follow.py   what became of orders, told to consumers
    chain.py    from payment to light as one chain with a clock
    paying.py   the payment desk with what follows from a payment
    pulse.py    do the payment channels work? nobody is cut who could not pay
    worker.py   all of it by the clock: `openami serve --role supply`
    settings.py how far the worker goes by itself: `supply.toml`

What always holds: a cut is ordered only where the guard would allow it then, and carried out only where it allows it at that second; what nobody
knows refuses; everything is in the database before it is acted upon, so that a restart at any point loses and doubles nothing.
"""
