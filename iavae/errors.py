"""What can go wrong for a user, and with which exit code does the program then end?"""


class IavaeError(Exception):
  """An error with one clear line for the user; all else is a defect and keeps its traceback."""

  exit_code = 1


class ConfigError(IavaeError):
  """A bad config, flag or input."""

  exit_code = 2


class NonFiniteError(IavaeError):
  """Training produced a NaN or an infinity."""

  exit_code = 3


class BusyError(IavaeError):
  """Another process works in the same directory."""

  exit_code = 4
