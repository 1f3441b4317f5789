"""Where a study lives: an embedded database, a shared one, a journal file or a gRPC proxy."""

import re
import time
import warnings
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import optuna
from optuna.storages import BaseStorage, GrpcStorageProxy, JournalStorage, RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

#: what a storage that does not answer raises
OUTAGES = (SQLAlchemyError, optuna.exceptions.StorageInternalError, grpc.RpcError)
#: a trial whose worker died is tried again this many times
MAX_RETRIES = 3
#: seconds in which several machines that start at once may find the tables half made
MAKING_TABLES = 5.0
SCHEMES = "sqlite:///FILE.db, postgresql://USER@HOST/NAME, FILE.log (a journal) or grpc://HOST:PORT"


def open_storage(url: str, heartbeat: int = 60) -> BaseStorage:
    """
    :param url: ``sqlite:///FILE.db``, ``postgresql://USER:PASSWORD@HOST:PORT/NAME`` (or another database that
        SQLAlchemy knows), ``FILE.log`` (a journal, as in rl_zoo3) or ``grpc://HOST:PORT`` (Optuna's proxy)
    :param heartbeat: seconds between two signs of life of a running trial; one that gave none for twice as long is
        failed and tried again, by any worker. Databases only: a journal and a proxy have none
    :return: the storage, with its tables
    :raises ValueError: for a URL that is none, or a database that cannot be reached, without its password
    :raises ImportError: when the database's driver is missing
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return _open(url, heartbeat)


def why(error: Exception) -> str:
    """
    :param error: of a storage
    :return: what the database or the proxy itself said, without what was asked of it
    """
    if isinstance(error, grpc.RpcError):
        return str(error.details())
    cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
    return str(getattr(cause, "orig", None) or cause or error).strip().splitlines()[-1]


def _open(url: str, heartbeat: int) -> BaseStorage:
    if url.endswith(".log"):
        Path(url).parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(url))
    if url.startswith("grpc://"):
        return _proxy(url)
    try:
        address = make_url(url)
        dialect = address.get_backend_name()
        if dialect == "sqlite" and address.database:
            Path(address.database).parent.mkdir(parents=True, exist_ok=True)
        if address.drivername == "postgresql":
            address = address.set(drivername="postgresql+psycopg")
    except (ArgumentError, ValueError):
        raise ValueError(f"storage '{masked(url)}' is not one of {SCHEMES}.") from None
    deadline = time.monotonic() + MAKING_TABLES
    while True:
        try:
            return RDBStorage(
                address.render_as_string(hide_password=False),
                # Workers wait for one another's writes; a connection that the database cut is opened again.
                engine_kwargs={"connect_args": {"timeout": 60}} if dialect == "sqlite" else {"pool_pre_ping": True},
                heartbeat_interval=heartbeat,
                grace_period=2 * heartbeat,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(max_retry=MAX_RETRIES),
            )
        except ImportError as error:
            raise ImportError(
                f"storage '{masked(url)}' needs a driver: pip install 'sb3_attnmem[distributed]' has PostgreSQL's"
            ) from error
        except OUTAGES as error:
            if time.monotonic() > deadline:
                raise ValueError(f"storage '{masked(url)}' cannot be opened: {why(error)}") from None
            time.sleep(0.5)


def _proxy(url: str) -> BaseStorage:
    try:
        address = urlsplit(url)
        host, port = address.hostname, address.port
    except ValueError:
        host, port = None, None
    if not host or not port:
        raise ValueError(f"storage '{masked(url)}': pass grpc://HOST:PORT")
    try:
        return GrpcStorageProxy(host=host, port=port)
    except ImportError as error:
        raise ImportError(f"storage '{url}' needs gRPC: pip install 'sb3_attnmem[distributed]'") from error


def masked(text: str) -> str:
    """
    :param text: a storage's URL, or a word of a command line
    :return: the same with ``***`` in place of a password
    """
    # Up to the last @: a password that holds one itself, unquoted, must not be shown by halves
    text = re.sub(r"(://[^:/@]*):.*@", r"\1:***@", text)
    return re.sub(r"([?&][^=&]*password[^=&]*=)[^&]*", r"\1***", text, flags=re.IGNORECASE)
