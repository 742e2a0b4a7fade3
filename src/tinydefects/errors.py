"""Errors for users: each message says what came, what was expected and the next thing to try."""


class TinyDefectsError(Exception):
    """Every error a user can mend; the command line prints it as one line and exits with code 2."""


class Stopped(BaseException):
    """The user stopped a command (Ctrl-C, or the signal to terminate): one line that says how to go on."""


class SettingsError(TinyDefectsError, ValueError):
    """A setting that does not exist, is out of bounds, or contradicts another."""


class ImageReadError(TinyDefectsError, ValueError):
    """A file cannot be read as an image, a mask or an anomaly map."""


class DatasetError(TinyDefectsError, ValueError):
    """A dataset folder is missing, incomplete or not laid out as its dataset prescribes."""


class MaskError(DatasetError):
    """A mask that does not say which pixels are marked; `doubt` names what could be allowed on purpose, if anything."""

    def __init__(self, message: str, *, doubt: str = "") -> None:
        super().__init__(message)
        self.doubt = doubt


class ResolutionMismatchError(TinyDefectsError, ValueError):
    """An anomaly map and its image or mask differ in size."""


class ScoreError(TinyDefectsError, ValueError):
    """Anomaly scores that cannot be ranked: nan, infinite, or not a two-dimensional map."""


class TableError(TinyDefectsError, ValueError):
    """A table of rows (CSV, JSON, JSON lines, Parquet) that cannot be read or lacks a column."""


class TeacherError(TinyDefectsError, RuntimeError):
    """A teacher that cannot be built or whose weights cannot be found, read or matched."""


class OfflineError(TinyDefectsError, ConnectionError):
    """Something that would have to be fetched while the network is forbidden."""


class NotFittedError(TinyDefectsError, RuntimeError):
    """A detector that was asked to predict or save before it was fitted or loaded."""


class TrainingError(TinyDefectsError, RuntimeError):
    """Training that cannot go on: no images, a loss that is not finite, a full disk."""


class ModelFileError(TinyDefectsError, ValueError):
    """A saved detector that is missing, incomplete, or made for another teacher."""


class ExportError(TinyDefectsError, ValueError):
    """A detector that cannot be exported as asked, or whose exported maps are not the detector's own."""


class ResultError(TinyDefectsError, ValueError):
    """A result file that is missing, truncated or does not say what it must."""


class MissingExtraError(TinyDefectsError, ImportError):
    """An optional part of the package that is not installed; the message names the extra."""

    def __init__(self, purpose: str, extra: str) -> None:
        super().__init__(f"{purpose} needs the extra '{extra}': pip install '.[{extra}]' in the checkout")
        self._parts = (purpose, extra)

    def __reduce__(self) -> tuple[type["MissingExtraError"], tuple[str, str]]:
        """What rebuilds it in another process."""
        return type(self), self._parts
