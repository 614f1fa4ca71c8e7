"""The consoles and the API: what a town's day looks like to the control room, to a consumer and to programs; pages are server-drawn and
readable without JavaScript.

    access.py     who may do what: roles, rights, reach (pure)
    gate.py       who is behind a request: session or token, form tokens, the way to the audit trail
    sign_in.py    signing in and out, one's own page, consents; tokens.py: signed tokens; limits.py: how often anybody may ask
    connections.py  how long one may take over what it asks, and how long its head may be
    oauth.py      our own OAuth and OpenID Connect provider; external.py: sign-in through another one
    carriers.py   what carriers report of messages, signed
    lane.py       quick pages one after another; renewed.py: dear answers, kept and renewed behind the reader's back
    beside.py     what runs beside an open house, in a thread of its own
    hooks.py      what happens, as events and signed webhooks; outward.py: where they may go; api/: the API
    consumer/     the consumer's phone: an installable app below /my; packing.py: answers packed for slow networks
    house.py      the whole app of a data folder, as settings.py reads its `sign_in.toml`; demo_people.py: who may look at a simulated town
    townbook.py   what the pages ask, and the answers' shape (`TownReader`)
    app.py        routes: parameters checked, answers asked, pages filled, safe headers
    pages.py      a template filled in the reader's language; translated.py: its sentences, translated once; failures.py: what went wrong
    once.py       a form that is sent twice acts once
    parameters.py what a page may be asked with, and within which bounds
    control_room/ the control room below `/room`, for operators and auditors
    charts.py     curves and bars as SVG, pure functions; charts_wide.py: tree maps, bands, lanes of time
    tables.py     the same as CSV
    reader.py     the answers from a data folder, also when it is replaced (`LakeTown`)
    opened.py     the answers from one such folder as it was opened
    by_name.py    meters by a part of a name; running.py: the losses of the day that is not closed yet
    one_account.py  one account's rows; one_meter.py: one meter's days, from the history and the day blocks; many_meters.py: many meters'
    closed_days.py  closed days as columns over the meters and sums, read once a version; ahead.py: the latest one, before anybody asks
    wording.py    English and Hindi: sentences, numbers, dates, quality and check names

What always holds: nothing is shown to anybody who has not signed in; what changes anything stands in the audit trail; what is unknown is
shown as unknown; a loss is never shown without its coverage.
"""

from .app import create_app
from .townbook import TownReader

__all__ = ["TownReader", "create_app"]
