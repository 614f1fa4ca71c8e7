"""The store: everything that is kept on disk, and the only room that knows SQL and Parquet.

    deployment.py   the settings of one data folder (zone, interval, days open, tariff), one small TOML file
    journal.py      the append-only log of received frames; what is in it survives `kill -9` and power loss
    jetstream.py    the same on NATS JetStream, a subject a shard; nats_stream.py: the stream itself; nats_address.py; journal_at.py: which of the two
    sql.py          the SQL database: SQLite in the folder or PostgreSQL by address, transactions, bulk load; migrations/: its steps forward
    rows.py         registry, wrapped keys and audit as SQL rows (SQLAlchemy Core)
    terms.py        on what terms an account is charged from which day: tariff, contract demand
    rosters.py      the registry of each shard as arrays, kept in a file that is brought up to date by what has changed
    ledger.py       the ledger of money in SQL: append-only, chained, bitemporal; ledger_tables.py: its tables; ledger_bulk.py: many accounts at
                    once (openings, charges); ledger_conversion.py: prepaid to postpaid and back;
                    ledger_bills.py: postpaid bills, lateness, deposits, arrears by instalment
    contacts.py     what the head-end remembers of each meter: invocation counters, lines, contacts, keys under way
    heard.py        what meters say beside block load: events, registers, status words; marks of the service levels
    order_book.py   orders to meters and all that happened to them
    outbox.py       messages that consumers are owed, and what became of each
    supply_rows.py  facts that people told, the guard's decisions with their inputs, the pulse of payment channels
    people.py       who may sign in: roles, grants, passwords, phones, lock-out; sessions.py: their browsers; clients.py: programs, by OAuth 2
    consents.py     what consumers let partners see; proposals.py: what a second person must agree to, and idempotency keys
    complaints.py   what consumers complain of, and what became of it
    inspections.py  what visits to meters found: the labels that suspicions learn from
    webhooks.py     who is told what happens, and what is still to be told
    audit.py        the audit trail: who did what, why and from where, as a chain
    lookup.py       registry, orders and transfers by page, within what the asker may reach
    keys.py         meters' keys at rest, wrapped with one master key
    grid.py         the day grid: readings scattered into arrays as they come, for all open days of a shard
    blocks.py       day blocks as Parquet rows, and the way back
    slots.py        the quick writer of such files; pages.py: the pages in them, and the quick way back; footer.py: what a Parquet file says of itself
    lake.py         day blocks and everything derived from them, as Parquet files in Delta Lake tables; draft.py: files of a day that
                    become visible together; delta.py: the tables, their versions and commits
    kept.py         single rows of the lake's files, which are read once and kept
    retention.py    how long versions and days stay, and the merging of small files
    facts.py        what is told of a day beside its readings, and people's edits
    places.py       where a lake lies: a folder, or a prefix of an S3-compatible store
    history.py      closed days in the order of meters, for one meter's year; derived; groups.py: one row group of a file of thousands

What always holds: a frame in the journal is never changed; every other number here can be recomputed from the journal and the registry;
a (day, shard) of a lake table is replaced as a whole by one atomic commit, and its earlier versions stay readable.
"""
