"""What an engineer keeps in the field: one meter, one frame, one order, from the command line.

    decode.py    any frame explained layer by layer (`openami decode`): framing.py finds frames, apdus.py and values.py explain what is in
                 them as a tree (node.py), telegram.py those that are text, obis.py names the codes
    access.py    what a person types to reach a meter, as address and credentials
    read.py      attributes and profiles of one meter, by name or by OBIS code (`openami read`)
    relay.py     the relay of one meter: off, on, state (`openami relay`)
    listen.py    pushes of known meters, a line each (`openami listen`)
    meter.py     one simulated meter that any client can talk to (`openami meter`)

What always holds: bad input is one clear sentence and exit code 2; a silent peer is a time-out that names the step; nothing hangs; bytes are
shown with secrets blanked.
"""
