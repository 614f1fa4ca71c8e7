"""The API, `/api/v1`: everything the consoles know, for programs; described by OpenAPI 3.1 at `/api/v1/openapi.json`.

    app.py       the application: its routes, its failures as problems
    around.py    what HTTP asks of every route: methods, limits, forms, tags
    description.py what the API says of itself, OpenAPI 3.1; fields.py: what each field means
    words.py     what all routes share: problems, pages by cursor, parameters; bounds.py: why a parameter cannot be used
    network.py   usage points, meters, losses, service levels, quarantine
    losses.py    losses of substations and above, and of the day that is not closed yet
    readings.py  readings as JSON, CSV and Arrow, quality, events
    bulk.py      readings of many meters in one request; as_table.py: readings as an Arrow stream and CSV
    money.py     accounts, statements, explanations, payments, tariffs
    complaints.py what waits for an answer
    work.py      orders, proposals, the audit trail
    sharing.py   who I am, people, consents, webhooks
    live.py      server-sent events

What always holds: a token or a session stands behind every request; a request that changes something is written into the audit trail, and one
that makes something carries an idempotency key; what went wrong is `application/problem+json`; what is out of reach is answered as not there.
"""

from .app import create_api

__all__ = ["create_api"]
