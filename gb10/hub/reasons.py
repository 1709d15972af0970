"""The hub's errors, each in one sentence that says what to do."""

from __future__ import annotations

import os
import re

from gb10.errors import CourseError, UserError, WorkFailed

TOKENS = "https://huggingface.co/settings/tokens"


def gated(repo: str) -> UserError:
    """Its terms have to be accepted first; https://huggingface.co/docs/hub/models-gated says how."""
    hint = "the token in HF_TOKEN has no access yet" if os.environ.get("HF_TOKEN") else "there is no HF_TOKEN in the environment"
    return UserError(f"{repo} is gated: accept its terms on https://huggingface.co/{repo}, then set HF_TOKEN to a "
                     f"fine-grained token that may read gated repositories ({TOKENS}); now {hint}.")


def explained(e: Exception, repo: str) -> CourseError:
    """What went wrong while `repo` was asked for or fetched."""
    if isinstance(e, CourseError):
        return e
    status = getattr(getattr(e, "response", None), "status_code", None)
    kind = type(e).__name__
    has_token = bool(os.environ.get("HF_TOKEN"))
    if kind == "GatedRepoError" or status == 403:
        return gated(repo)
    if kind == "RevisionNotFoundError":
        return UserError(f"{repo} has no such revision.")
    if kind == "RepositoryNotFoundError" or status in (401, 404):
        hint = "the token in HF_TOKEN may not see it" if has_token else "or it is private and HF_TOKEN is not set"
        return UserError(f"the hub has no model {repo} (check the spelling), {hint}.")
    if status == 429:
        raised = "" if has_token else ", or set HF_TOKEN, which raises the limit"
        return WorkFailed(f"the hub asks to slow down (too many requests from here): wait {_wait(e)}{raised}; then run this "
                          f"again, it goes on where it stopped.")
    if isinstance(e, OSError) and e.errno == 28:
        return WorkFailed(f"the disk is full while fetching {repo}: free some, then run this again; it goes on where it stopped.")
    if status and status >= 500:
        return WorkFailed(f"the hub has trouble of its own (HTTP {status}): try again later.")
    if kind == "OfflineModeIsEnabled":
        return WorkFailed(f"{repo} is not on this machine, and HF_HUB_OFFLINE forbids fetching it: unset it, or install the "
                          f"model from a bundle (./course models install --help).")
    text = str(e).lower()
    if kind == "HFValidationError":
        return UserError(f"{repo!r} is not a model's name on the hub: it has the form owner/name.")
    if kind == "Differs":
        return WorkFailed(f"{repo}: a file that came differs from what the hub announced, again and again: something on the "
                          f"way changes it (a proxy?), or this disk or memory fails; try on another network.")
    if any(w in text for w in ("connect", "resolve", "timed out", "timeout", "network", "peer closed", "incomplete")) or \
            "Connect" in kind or "Timeout" in kind or kind in ("RemoteProtocolError", "LocalEntryNotFoundError"):
        return WorkFailed(f"{repo} can't be fetched: the connection to the hub failed or broke off. What has come is kept; run "
                          f"this again when the network is back.")
    return WorkFailed(f"{repo} can't be fetched: {kind}: {str(e).splitlines()[0][:200] if str(e) else 'no reason given'}")


def is_final(e: Exception) -> bool:
    """Would trying again at once be useless or rude?"""
    return isinstance(explained(e, ""), UserError) or getattr(e, "errno", None) in (13, 27, 28, 30) or getattr(
        getattr(e, "response", None), "status_code", None) == 429


def _wait(e: Exception) -> str:
    """How long the hub asks to wait: Retry-After, or its RateLimit header's t (seconds)."""
    headers = getattr(getattr(e, "response", None), "headers", None) or {}
    found = re.fullmatch(r"\d{1,6}", headers.get("Retry-After", "").strip()) or re.search(
        r"(?<=;t=)\d{1,6}", headers.get("RateLimit", ""))
    if not found:
        return "some minutes"
    seconds = int(found[0])
    return f"{seconds} s" if seconds < 120 else f"{-(-seconds // 60)} min"
