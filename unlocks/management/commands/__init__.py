from django.core.management.base import CommandError

from ...ledger import anchors


def anchors_in(path):
    """Return the anchors in a file. Raises CommandError, with exit code 2, when it can't be read or holds none."""
    try:
        return anchors.read(path.read_text())
    except OSError as error:
        raise CommandError(f"{path} could not be read: {error.strerror}.", returncode=2) from error
    except (anchors.NotAnchors, UnicodeDecodeError) as error:
        raise CommandError(f"{path} is not an anchor: {error}.", returncode=2) from error
