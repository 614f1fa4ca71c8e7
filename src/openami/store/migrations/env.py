"""Alembic's way in: the steps run on the connection that `upgrade` hands over, in its transaction."""

from alembic import context

from openami.store.sql import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=False)
context.run_migrations()
