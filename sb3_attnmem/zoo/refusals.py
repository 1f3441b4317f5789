"""What commands do not do."""


class Refusal(ValueError):
    """What a command ends for with exit code 2 and this message, however deep inside of a program it comes up."""
