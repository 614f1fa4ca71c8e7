"""The one exception tree. Raised only where a person or a peer must act; bad data is a value, never an exception.

Every message is one sentence (or a few clauses) that names what is wrong, where, and the way out. The command line
prints it and exits with 2; the API turns it into problem+json. The type says whose fault it is:

- `MeterError`   a peer broke the protocol: its frame is kept, its neighbours go on;
- `RequestError` we, or our caller, asked for something illegal in the present state;
- `InputError`   a person gave something that cannot be used (a date, a tariff name, a port);
- `DataError`    a file of ours is corrupt, of another version, or not there;
- `StorageError` the machine refuses: disk full, folder read-only, database locked.
"""

from __future__ import annotations


class OpenAMIError(Exception):
    """Base of everything that OpenAMI raises on purpose."""


class MeterError(OpenAMIError):
    """The peer broke the protocol. `cause` is the quarantine's word for it (see `docs/glossary.md`, "quarantine");
    `octets` are the offending bytes where the framing lost its place, else empty."""

    def __init__(self, message: str, cause: str = "malformed", octets: bytes = b"") -> None:
        super().__init__(message)
        self.cause = cause
        self.octets = octets


class RequestError(OpenAMIError):
    """Our own illegal request: the state machine or the standard does not allow it here."""


class InputError(OpenAMIError):
    """A person's input cannot be used; the message says what would be accepted."""


class DataError(OpenAMIError):
    """A stored or shipped file is corrupt, incomplete or of another version; the message names the file and the way out."""


class StorageError(OpenAMIError):
    """The machine refuses to store: full, read-only, locked. Nothing was half-written."""
