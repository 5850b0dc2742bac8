"""A directory to the Hugging Face hub: a repository, one commit, and whether all of it arrived.

One commit, so that nobody ever loads half a model: the hub shows what it held before, or all. (The
hub client's own `upload_folder` may make several of a large directory.)
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from jaxsafety.core.errors import bad

FIELD = "--push"
NAME = "owner/name, of letters, digits, -, _ and ."
# Of an earlier push: weights that a loader might take for this model's.
REPLACED = ("*.safetensors", "*.safetensors.index.json")


def check(repo: str) -> None:
    """Refuses what can be refused before a model is read: a bad name, no network, no login.

    Raises:
      UsageError: says which.
    """
    import huggingface_hub
    from huggingface_hub import constants, errors
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo)
    except errors.HFValidationError:
        raise bad(FIELD, repo, NAME) from None
    if repo.count("/") != 1:
        raise bad(FIELD, repo, NAME)
    if constants.HF_HUB_OFFLINE:
        raise bad(FIELD, repo, "a hub that may be reached (HF_HUB_OFFLINE is set)")
    if not huggingface_hub.get_token():
        raise bad(FIELD, repo, "a login: `hf auth login`, or HF_TOKEN in the environment")


def push(folder: Path, repo: str, *, public: bool = False) -> str:
    """Makes the repository, if it is not there, and uploads the directory in one commit.

    Args:
      folder: all of its files go.
      repo: owner/name, see `check`.
      public: whether everyone may see it.

    Returns:
      Where it is, and whether everyone sees it, in words.

    Raises:
      UsageError: it could not be made, is public without being asked to, or not all arrived; the
        line says what the repository holds, and that the directory is still here.
    """
    import huggingface_hub

    kept = f"the model lies in {folder}"
    later = f"{kept}, `hf upload {'' if public else '--private '}{repo} {folder}` sends it later"
    api = huggingface_hub.HfApi()
    try:
        url = api.create_repo(repo, private=not public, exist_ok=True)
        hidden = bool(api.model_info(repo).private)
        there = api.list_repo_files(repo)
    except Exception as error:  # of the network, the hub or the account
        allowed = f"a repository that you may write to ({_why(error)}); nothing was sent, {later}"
        raise bad(FIELD, repo, allowed) from None
    if not hidden and not public:
        allowed = f"a private one, or --public for this one; nothing was sent, {kept}"
        raise bad(FIELD, f"{repo}, which is public", allowed)
    files = sorted(f for f in folder.rglob("*") if f.is_file())
    try:
        _commit(api, folder, files, repo, there)
        arrived = set(api.list_repo_files(repo))
    except Exception as error:
        allowed = f"an upload that ends ({_why(error)}); {repo} holds what it did before, or all of"
        raise bad(FIELD, repo, f"{allowed} this: see {url}; {later}") from None
    lost = [f.name for f in files if f.relative_to(folder).as_posix() not in arrived]
    if lost:
        allowed = f"one that takes all files (its .gitignore?); it lacks {', '.join(lost)}; {kept}"
        raise bad(FIELD, repo, allowed)
    return f"{url} ({'private' if hidden else 'public'})"


def _commit(api: Any, folder: Path, files: list[Path], repo: str, there: list[str]) -> None:
    """All files, and no weights of an earlier push."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    names = {f.relative_to(folder).as_posix(): f for f in files}
    stale = [
        name
        for name in there
        if name not in names and any(fnmatchcase(name, pattern) for pattern in REPLACED)
    ]
    operations: list[Any] = [CommitOperationDelete(path_in_repo=name) for name in stale]
    operations += [
        CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(file))
        for name, file in names.items()
    ]
    api.create_commit(repo, operations, commit_message="jaxsafety export")


def _why(error: Exception) -> str:
    """What went wrong: the usual causes shortly, all others in the hub's own words."""
    from huggingface_hub import errors

    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.LocalTokenNotFoundError) or status == 401:
        return "the hub does not know this login: `hf auth login`"
    if status == 403:
        return "this login may not write there"
    if isinstance(error, errors.RepositoryNotFoundError) or status == 404:
        return "the hub has no such owner or repository, or this login may not see it"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set"
    text = " ".join(str(error).split())
    return text[:300] if status or isinstance(error, ValueError) else f"no answer: {text[:300]}"
