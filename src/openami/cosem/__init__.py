"""Meter bytes <-> values: DLMS/COSEM as a library that stands alone. No sockets, no clock, no files of its own, no side.

What always holds:
- bytes in, values out: a peer's mistake raises `MeterError` and nothing else; what is in front of it and behind it goes on;
- lengths are checked before anything is allocated, and nesting is bounded;
- encoding what was decoded gives the same bytes wherever the standard leaves one way of writing them;
- keys are never shown: not in a repr, not in an error.

The chapters, from the wire upwards:

    wrapper.py        TCP/UDP wrapper frames (IEC 62056-47)
    axdr.py           A-XDR: typed data, all types, compact arrays (IEC 62056-6-2, IEC 61334-6)
    clock.py          COSEM date-time, with every "not specified" form
    ciphering.py      AES-GCM protection of APDUs: glo-, ded-, general-glo-, general-ded-ciphering
    notification.py   data-notification and its confirmation
    push.py           push layouts by maker and model: a push body <-> readings; `data/layouts.toml`
"""
