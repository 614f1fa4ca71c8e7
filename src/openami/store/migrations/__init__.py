"""The steps that bring a database up to date (Alembic), and `upgrade`, which takes them.

A chapter's steps are `versions/<chapter>_<number>.py`, a chain of their own with its own beginning, so that chapters grow without waiting for
each other; `depends_on` names another chapter's step where tables refer to each other. A step that is released is never changed. Steps run
forward only: the way back is a backup.
"""

from __future__ import annotations

from importlib import resources

import sqlalchemy as sa


def upgrade(connection: sa.Connection) -> None:
    """Take every step that `connection`'s database has not had, inside its transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(resources.files(__package__)).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "heads")
