"""Payments: money that comes in by a gateway, posted once, whatever the gateway does.

    desk.py         takes what gateways say and posts it; asks for payments and refunds; bills to be paid
    taking.py       many events at once: known, decided, written
    event.py        what a gateway can say, read strictly; what all that was said of a payment means, in any order
    signing.py      messages signed with a shared secret and a time (HMAC-SHA256)
    gateways.py     which gateways there are: addresses and secrets, by reference
    batch.py        those who wait for a commit share one
    http.py         the same over HTTP: a router for BBPS-like requests and UPI-like webhooks
    reconnection.py the order that a payment brings about
    daily_file.py   a gateway's file of a day against the ledger: a list of differences
    client.py       asking a gateway: collect, status, refund; the poll of what is still open
    simulator.py    a gateway that misbehaves on request

What always holds: nothing is posted on an unsigned, forged or stale message, for an unknown account, or in another amount than was asked for;
a payment is posted once and reversed at most once, however often, late or out of order it is told of; what is refused is refused by name
and posts nothing.
"""
