"""What the hub's client raises, in sentences; it may be of any version whose classes have these names."""

from __future__ import annotations

from tritonvision.errors import ExportFailed, SetupError, TritonVisionError
from tritonvision.exporters.sources import patience
from tritonvision.exporters.sources.download import FULL

_STOPPED = {"ReadError", "RemoteProtocolError", "ReadTimeout"}  # classes of httpx, or of httpx2 in newer clients
_TOKEN = "For what is private or gated, HF_TOKEN must hold a token of an account that may read it."


def pause(error: BaseException) -> float | None:
    """Seconds after which it makes sense to ask again, or None: it does not, or not soon."""
    error = _telling(error)
    answer = getattr(error, "response", None)
    if answer is not None:
        return patience.pause(answer.status_code, answer.headers)
    return 1.0 if type(error).__name__ in _STOPPED else None


def sentence(error: BaseException, repository: str, name: str) -> TritonVisionError:
    """The error as a person meets it.

    Args:
        name: of the file that was wanted; empty for the repository itself.
    """
    error = _telling(error)
    what = f"{repository}/{name}" if name else f"'{repository}'"
    return _of_the_disk(error, what) or _of_the_answer(error, repository, name, what) or _of_the_way(error, what)


def _telling(error: BaseException) -> BaseException:
    """The error that tells most: where the client found nothing in its cache, why it could not ask the hub."""
    return error.__cause__ if type(error).__name__ == "LocalEntryNotFoundError" and error.__cause__ else error


def _of_the_disk(error: BaseException, what: str) -> SetupError | None:
    if not isinstance(error, OSError) or error.errno not in FULL:
        return None
    return SetupError(
        f"The disk is full: {what} does not fit into the hub's cache.",
        hint="Make room, or let HF_HOME name a folder on another disk.",
    )


def _of_the_answer(error: BaseException, repository: str, name: str, what: str) -> ExportFailed | None:
    """The error where the hub answered, None where it did not."""
    from huggingface_hub import errors

    answer = getattr(error, "response", None)
    if answer is None:
        return None
    status = answer.status_code
    if isinstance(error, errors.GatedRepoError):
        return ExportFailed(
            f"'{repository}' is gated: its owner gives it only to those who accepted its terms.",
            hint=f"Accept them on its page, huggingface.co/{repository}, and put your token into HF_TOKEN.",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return ExportFailed(f"'{repository}' has no such revision.", hint="Name a branch, a tag or a commit of it.")
    if isinstance(error, errors.EntryNotFoundError):
        return ExportFailed(f"'{repository}' has no file '{name}'.", hint="Look at the files on its page.")
    if isinstance(error, errors.RepositoryNotFoundError) or status == 404:
        return ExportFailed(
            f"The hub has no repository '{repository}' that may be read.", hint=f"Is it spelt so? {_TOKEN}"
        )
    if status in (401, 403):
        return ExportFailed(f"The hub refuses {what} ({status}).", hint=_TOKEN)
    if status == 429:
        return ExportFailed(
            "The hub was asked too often and answers nothing for now (429).",
            hint=f"Try again {patience.when(answer.headers)}; with a token in HF_TOKEN it may be asked more often.",
        )
    return ExportFailed(f"The hub answers {status} to {what}.", hint=f"Try again {patience.when(answer.headers)}.")


def _of_the_way(error: BaseException, what: str) -> ExportFailed:
    """The error where there was no answer, or half of one."""
    kind = type(error).__name__
    if kind == "OfflineModeIsEnabled":
        return ExportFailed(
            f"{what} is not in the hub's cache, and HF_HUB_OFFLINE forbids to fetch it.", hint="Unset HF_HUB_OFFLINE."
        )
    if kind in _STOPPED or "Consistency check" in str(error):
        return ExportFailed(f"The download of {what} stopped in the middle.", hint="Try again; nothing was published.")
    if kind == "FileMetadataError":
        return ExportFailed(
            f"What answers for {what} is no Hugging Face hub.", hint="Look at HF_ENDPOINT and at proxies in between."
        )
    return ExportFailed(
        f"The hub cannot be reached for {what}.",
        hint="Fetch it where there is a network and name it with --weights PATH.",
    )
