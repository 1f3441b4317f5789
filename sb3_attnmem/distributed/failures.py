"""What is raised when an actor cannot go on."""


class ActorError(RuntimeError):
    """An actor failed as often as it may; the message ends with its own traceback."""


class ActorSetupError(ValueError):
    """An actor's environments do not fit the model: to begin it anew would not help."""
