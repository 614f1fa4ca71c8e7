"""The head-end: talks to meters.

    admission.py   one frame judged: whose is it, is it genuine, is it new; the confirmation it deserves, or the cause of its refusal
    listener.py    the push listener: frames in from TCP, journalled in batches, and only then confirmed

What always holds: a frame is confirmed only after the journal holds it on disk; a frame is never lost because of what is wrong with it
(it lies in the journal, and its refusal in quarantine); the same journal judged again gives the same verdicts.
"""
