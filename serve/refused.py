"""Why a job was not done: a line for the person who asked for it.

Apart from the jobs, so that the command line can name it without loading any of them.
"""


class Refused(RuntimeError):  # noqa: N818  # the word of the command line, which prints it as it is
    """A job cannot be done as things are; nothing was changed."""
