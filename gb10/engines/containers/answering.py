"""Talk to an engine that has just been started: is it ready, has it the model, and its first answer."""

from __future__ import annotations

import contextlib
import json
import urllib.error

from gb10.engines.containers import here
from gb10.engines.containers.planning import Plan
from gb10.errors import WorkFailed
from gb10.progress import Progress


def ready(plan: Plan) -> bool:
    """Does /health say yes, and is the model among those it lists?"""
    base = plan.url.removesuffix("/v1")
    try:
        with here.open(base + plan.spec.health) as r:
            if r.status != 200:
                return False
        if plan.spec.name == "ollama":
            return True
        with here.open(plan.url + "/models") as r:
            return any(m.get("id") == plan.chosen.name for m in json.loads(r.read(1_000_000))["data"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def fetch_into_ollama(plan: Plan, progress: Progress) -> None:
    """Ollama fetches its models itself; its /api/pull says how far it has come. One that is there is not asked for again, since
    that needs the network."""
    base = plan.url.removesuffix("/v1")
    with contextlib.suppress(OSError), here.open(base + "/api/show", json.dumps({"model": plan.chosen.given}).encode(), 30) as r:
        if r.status == 200:
            return
    try:
        with here.open(base + "/api/pull", json.dumps({"model": plan.chosen.given, "stream": True}).encode(), timeout=300) as r:
            for line in r:
                step = json.loads(line)
                if step.get("error"):
                    raise WorkFailed(f"Ollama can't fetch {plan.chosen.given}: {step['error'][:200]}")
                total, done = step.get("total") or 0, step.get("completed") or 0
                progress.update(f"{step.get('status', '')[:40]}" + (f" {done / 1e9:.1f} of {total / 1e9:.1f} GB" if total else ""))
    except urllib.error.HTTPError as e:
        raise WorkFailed(f"Ollama can't fetch {plan.chosen.given}: HTTP {e.code}, {e.read(300).decode(errors='replace')}") from None
    except (OSError, ValueError) as e:
        raise WorkFailed(f"Ollama's download of {plan.chosen.given} broke off ({e}): what has come is kept; run this again.") from None


def first_answer(plan: Plan, timeout: float = 300) -> None:
    """One short chat through the path that readers use: kernels are compiled now and not in somebody's measurement."""
    body = json.dumps({"model": plan.chosen.name, "max_tokens": 3, "temperature": 0,
                       "messages": [{"role": "user", "content": "Hello"}]}).encode()
    try:
        with here.open(plan.url + "/chat/completions", body, timeout) as r:
            json.load(r)["choices"][0]["message"]
    except urllib.error.HTTPError as e:
        raise WorkFailed(f"{plan.spec.title} came up but refuses to answer (HTTP {e.code}): "
                         f"{e.read(400).decode(errors='replace')}") from None
    except (OSError, ValueError, KeyError, IndexError, TypeError) as e:
        raise WorkFailed(f"{plan.spec.title} came up but did not answer its first request ({type(e).__name__}: {e}).") from None
