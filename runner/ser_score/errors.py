"""What can be wrong, as sentences for people."""


class BundleError(Exception):
    """A bundle that cannot be used."""


class Rejected(Exception):
    """Audio that cannot be used; the message is the reason, one line."""


class UsageError(Exception):
    """What was asked for cannot be done."""
