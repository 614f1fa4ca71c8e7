"""Notices: words to consumers, carried by somebody, and what became of them.

    texts.py      the sentences, in the account's language
    senders.py    who carries them: any service that Apprise knows, by address; `notices.toml`
    delivery.py   the outbox emptied through them; carriers' reports read

What always holds: nothing is sent that the outbox does not hold; a failure of one message or carrier stops no other; an address is in no log.
"""
