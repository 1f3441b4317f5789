"""The ground floor: what every room needs and no room owns."""

#: nothing of it is for users; rooms import from its modules
__all__: list[str] = []
