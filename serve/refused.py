"""The error of a refused job, kept apart so that the command line can import it cheaply."""


class Refused(RuntimeError):  # noqa: N818  # the command line prints it as it is
    """A job cannot be done in the present state; nothing was changed."""
