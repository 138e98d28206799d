"""Fetching weights from the hub: the only place of the project that opens a connection for weights.

The hub's own library does it, with its own cache and variables: `HF_ENDPOINT` names another address,
`HF_HUB_CACHE` another folder.
"""

from __future__ import annotations

import os
from pathlib import Path

from headstart.core.errors import WeightsError
from headstart.networks.local import hub_cache

_SECONDS_TO_ANSWER = 5.0


def download(repository: str, files: tuple[str, ...]) -> Path:
    """Fetch the first of `files` that a hub repository has, into the hub's cache, and return its path.

    Raises:
        WeightsError: The hub does not answer, refuses, has none of the files, or the transfer breaks; the message
            is the reason only.
    """
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    endpoint = (os.environ.get("HF_ENDPOINT") or huggingface_hub.constants.ENDPOINT).rstrip("/")
    _check_answers(endpoint)
    for name in files:
        try:
            return Path(huggingface_hub.hf_hub_download(repository, name, endpoint=endpoint, cache_dir=hub_cache()))
        except LocalEntryNotFoundError as error:  # the library's way of saying that the transfer did not start
            raise WeightsError(f"fetching {name} of {repository} failed: {_reason(error)}") from error
        except EntryNotFoundError:
            continue
        except Exception as error:  # connection, permission, disk: each has a type of its own
            raise WeightsError(f"fetching {name} of {repository} failed: {_reason(error)}") from error
    raise WeightsError(f"{repository} has none of {', '.join(files)}")


def _check_answers(endpoint: str) -> None:
    # The library tries six times over 24 s before it gives up; without a network one look is enough.
    from huggingface_hub import get_session

    try:
        get_session().head(endpoint, timeout=_SECONDS_TO_ANSWER)
    except Exception as error:
        raise WeightsError(f"the hub does not answer ({_reason(error)})") from error


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else text[:157] + "..."
