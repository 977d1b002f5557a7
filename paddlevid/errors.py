"""Errors that a user can cause.

Command lines print them as one line and exit with code 2; any other exception is a bug and keeps its traceback.
"""


class UserError(Exception):
    """Something outside the program is wrong; the message says what, where, and what would do."""


class ConfigError(UserError):
    """A configuration file or an override cannot be used."""


class DataError(UserError):
    """A list file, a video or a folder of frames cannot be used."""


class WeightsError(UserError):
    """A file of weights cannot be read, or does not belong to the model."""


class ExportError(UserError):
    """A model cannot be exported, or its export answers differently."""


class TrainingError(UserError):
    """A run cannot go on; its checkpoints are kept."""


class Interrupted(Exception):
    """A run was asked to stop and has saved where it is: a scheduler should start it again with `--resume auto`.

    Command lines print it as one line and exit with `exit_code`, which is EX_TEMPFAIL of sysexits.h.
    """

    exit_code = 75
