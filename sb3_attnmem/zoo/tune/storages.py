"""Where a study lives: an embedded database, a shared one, a journal file or a gRPC proxy."""

import contextlib
import re
import time
import warnings
from pathlib import Path
from urllib.parse import urlsplit

import optuna
from optuna.storages import BaseStorage, GrpcStorageProxy, JournalStorage, RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

try:
    from grpc import RpcError
except ImportError:  # of the extra "distributed"

    class RpcError(Exception):  # type: ignore[no-redef]
        """What no storage raises where gRPC is not installed."""


#: what a database or a proxy that does not answer raises; other errors of theirs are mistakes of the caller
OUTAGES = (OperationalError, InterfaceError, PoolTimeout, RpcError)
#: a trial whose worker died is tried again this many times
MAX_RETRIES = 3
#: seconds in which several machines that start at once may find the tables half made
MAKING_TABLES = 5.0
SCHEMES = "sqlite:///FILE.db, postgresql://USER@HOST/NAME, FILE.log (a journal) or grpc://HOST:PORT"


class StorageAway(ValueError):
    """A storage that cannot be opened, perhaps for now."""


def retry_trial(study: optuna.Study, trial: FrozenTrial, most: int | None = MAX_RETRIES) -> None:
    """
    Enqueue a trial again that was ended by something else than itself, with the same parameters.

    :param study: its study
    :param trial: that failed
    :param most: times that it is tried again; None: no limit
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        RetryHeartbeatStaleTrialCallback(max_retry=most)(study, trial)


class PatientDatabase(RDBStorage):
    """A database in which a sign of life that cannot be given is left out: Optuna would give no other after it."""

    def record_heartbeat(self, trial_id: int) -> None:
        with contextlib.suppress(*OUTAGES, optuna.exceptions.StorageInternalError):
            super().record_heartbeat(trial_id)


def open_storage(url: str, heartbeat: int = 60) -> BaseStorage:
    """
    :param url: ``sqlite:///FILE.db``, ``postgresql://USER:PASSWORD@HOST:PORT/NAME`` (or another database that
        SQLAlchemy knows), ``FILE.log`` (a journal, as in rl_zoo3) or ``grpc://HOST:PORT`` (Optuna's proxy)
    :param heartbeat: seconds between two signs of life of a running trial; one that gave none for twice as long is
        failed and tried again, by any worker. Databases only: a journal and a proxy have none
    :return: the storage, with its tables
    :raises ValueError: for a URL that is none, or one of a database in memory, which no other process would see
    :raises StorageAway: a ValueError: for a database that cannot be reached; its password is not in the message
    :raises ImportError: when the database's driver is missing
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return _open(url, heartbeat)


def outage(error: BaseException, of_files: bool = True) -> Exception | None:
    """
    :param error: that came out of Optuna
    :param of_files: whether an OSError, such as that of a full disk, is the storage's: a journal is a file
    :return: the error of the storage behind it, if a storage that does not answer is the cause; else None: Optuna loses
        its way in an outage, and raises an UnboundLocalError then
    """
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        if isinstance(cause, (*OUTAGES, StorageAway)) or (of_files and isinstance(cause, OSError)):
            return cause
        seen.append(cause)
        cause = cause.__cause__ or cause.__context__
    return None


def why(error: BaseException) -> str:
    """
    :param error: of a storage
    :return: what the database or the proxy itself said, without what was asked of it
    """
    error = outage(error) or error
    if isinstance(error, RpcError):
        return str(error.details())
    told = str(getattr(error, "orig", None) or error).strip().splitlines()
    return told[-1] if told else type(error).__name__


def _open(url: str, heartbeat: int) -> BaseStorage:
    if url.endswith(".log"):
        Path(url).parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(url))
    if url.startswith("grpc://"):
        return _proxy(url)
    if url.split("://", maxsplit=1)[-1].split("/", maxsplit=1)[0].count("@") > 1:
        raise ValueError(f"storage '{masked(url)}': the password holds an @, which must be written as %40 in a URL.")
    try:
        address = make_url(url)
        dialect = address.get_backend_name()
        if dialect == "sqlite" and _is_in_memory(address):
            raise _InMemory
        if dialect == "sqlite" and address.database:
            Path(address.database).parent.mkdir(parents=True, exist_ok=True)
        if address.drivername == "postgresql":
            address = address.set(drivername="postgresql+psycopg")
    except _InMemory:
        raise ValueError(
            f"storage '{masked(url)}' is a database in memory: each process would have a study of its own, and nothing "
            "would be left of it. Pass a file: sqlite:///FILE.db."
        ) from None
    except (ArgumentError, ValueError):
        raise ValueError(f"storage '{masked(url)}' is not one of {SCHEMES}.") from None
    deadline = time.monotonic() + MAKING_TABLES
    while True:
        try:
            return PatientDatabase(
                address.render_as_string(hide_password=False),
                # Workers wait for one another's writes; a connection that the database cut is opened again.
                engine_kwargs={"connect_args": {"timeout": 60}} if dialect == "sqlite" else {"pool_pre_ping": True},
                heartbeat_interval=heartbeat,
                grace_period=2 * heartbeat,
                heartbeat_stale_trial_callback=retry_trial,
            )
        except ImportError as error:
            raise ImportError(
                f"storage '{masked(url)}' needs a driver: pip install 'sb3_attnmem[distributed]' has PostgreSQL's"
            ) from error
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            if time.monotonic() > deadline:
                told = _without(why(error), address.password)
                raise StorageAway(f"storage '{masked(url)}' cannot be opened: {told}") from None
            time.sleep(0.5)


class _InMemory(Exception):
    pass


def _is_in_memory(address: URL) -> bool:
    name = address.database or ""
    return not name or ":memory:" in name or "mode=memory" in name or address.query.get("mode") == "memory"


def _without(text: str, password: str | None) -> str:
    return text.replace(password, "***") if password else text


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
        raise ImportError(f"storage '{masked(url)}' needs gRPC: pip install 'sb3_attnmem[distributed]'") from error


def masked(text: str) -> str:
    """
    :param text: a storage's URL, or a word of a command line
    :return: the same with ``***`` in place of a password
    """
    # Up to the last @: a password that holds one itself, unquoted, must not be shown by halves
    text = re.sub(r"(://[^:/@]*):.*@", r"\1:***@", text)
    return re.sub(r"([?&][^=&]*password[^=&]*=)[^&]*", r"\1***", text, flags=re.IGNORECASE)
