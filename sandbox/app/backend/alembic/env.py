from logging.config import fileConfig

from alembic import context
from app.models import Base
from app.settings import settings
from sqlalchemy import create_engine, pool

fileConfig(context.config.config_file_name, disable_existing_loggers=False)


def run_offline() -> None:
    context.configure(url=settings.sqlalchemy_url, target_metadata=Base.metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()


def run_online() -> None:
    engine = create_engine(settings.sqlalchemy_url, poolclass=pool.NullPool)
    with engine.connect() as connection:
        context.configure(connection=connection, target_metadata=Base.metadata)
        with context.begin_transaction():
            context.run_migrations()


if context.is_offline_mode():
    run_offline()
else:
    run_online()
