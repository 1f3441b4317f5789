"""Where a study lives, under the name that scripts import it by: see :mod:`sb3_attnmem.zoo.tune.storages`."""

from sb3_attnmem.zoo.tune.storages import open_storage

__all__ = ["open_storage"]
