"""The head-end: talks to meters.

    whole.py       one head-end on one data folder, as a running whole; process.py: as a process of its own
    admission.py   one frame judged: whose is it, is it genuine, is it new; the confirmation it deserves, or the cause of its refusal
    listener.py    the push listener: frames in from TCP and UDP
    intake.py      behind the sockets: frames stored in batches, judged, only then confirmed; what they say is noted
    away.py        a database that is away: said once, and once when it is back; aside.py: what may wait for it, beside what must not
    meanwhile.py   a start while it is away: pushes taken with what known.py has kept of the meters
    gate.py        who sends too much of what is refused
    arrivals.py    which intervals of which meters are here, and when each was heard
    registers.py   daily, billing and instantaneous registers, status words and events, as rows
    session.py     one conversation with one meter: connect, associate, ask, release; nothing waits for ever; wire.py: what carries it, TCP or UDP;
                   sentences.py: steps, refusals and codes in words
    reader.py      objects and profiles of a meter as values with units
    lines.py       the way to every registered meter: where it listens, its secrets, its counters, its keys under way
    orders.py      orders carried out; wishes.py: what exactly each asks for; procedures.py: how each kind is
                   sent and read back; images.py: firmware
    gaps.py        which ranges of whose block load are missing
    schedule.py    what the clock makes due
    plan.py        what to ask which meter next: priorities, limits, back-off
    rounds.py      the plan carried out, into the journal
    pulled.py      what was read from a meter, as the journal keeps it
    levels.py      service levels and the clock against them; silent meters
    status.py      how the head-end stands, read from the data folder by anybody

What always holds: a frame is confirmed only after the journal holds it on disk; a frame is never lost because of what is wrong with it
(it lies in the journal, and its refusal in quarantine); the same journal judged again gives the same verdicts; an order is written as sent
before it leaves, and an answer that was lost is resolved by reading the meter; no invocation counter is used twice with a key.
"""
