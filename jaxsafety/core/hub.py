"""What is fetched from the Hugging Face hub, into its own cache, and why it could not be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

NAME = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*"  # owner/name


def snapshot(
    name: str, revision: str, patterns: Sequence[str], *, what: str = "model", kind: str = "model"
) -> Path:
    """The directory of a repository in the cache, with the files that match.

    Args:
      name: "owner/name".
      revision: a branch, tag or commit; "" is the newest of the main branch.
      patterns: of the files to fetch, as fnmatch has them. Nothing else is fetched.
      what: how an error calls such a repository.
      kind: "model" or "dataset".

    Raises:
      ValueError: it cannot be fetched; the reason in words.
    """
    import huggingface_hub

    try:
        found = huggingface_hub.snapshot_download(
            name, repo_type=kind, revision=revision or None, allow_patterns=list(patterns)
        )
    except Exception as error:  # of the network, the hub or the disk: it cannot be fetched
        raise ValueError(why(error, what)) from None
    return Path(found)


def listing(name: str, revision: str, kind: str) -> list[str] | None:
    """Names of all files of a repository; None where the hub does not say them."""
    import huggingface_hub

    try:
        api = huggingface_hub.HfApi()
        return list(api.list_repo_files(name, revision=revision or None, repo_type=kind))
    except Exception:  # offline, say: what is in the cache is all there is
        return None


def why(error: Exception, what: str = "model") -> str:
    """What went wrong at the hub: the usual causes shortly, all others in its own words."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return "its owner asks for an agreement there, and for a login here: `hf auth login`"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"the hub has no such {what}, or it is private: `hf auth login`"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"the {what} is there, without such a revision"
    if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
        off = isinstance(error.__cause__ or error, errors.OfflineModeIsEnabled)
        cause = "HF_HUB_OFFLINE is set" if off else error.__cause__ or "no answer"
        return f"the hub was not reached, {' '.join(str(cause).split())}, and the cache lacks it"
    return " ".join(str(error).split()) or type(error).__name__
