"""What each figure means, in a sentence or two: for --explain, and for the reports."""

from __future__ import annotations

DEFINITIONS = {
    "TTFT": "Time to first token: from just before the first byte of the request is written on an open connection to the "
            "arrival of the first event with text in it (answer, reasoning or tool call). Connecting is not in it, and an "
            "event that only names the role is no token; tools that count either report more or less.",
    "TTFR": "Time to first response: to the first event of any kind, even one without text.",
    "TTFA": "Time to first answer: to the first text that is not reasoning; shown where a model thinks first.",
    "N": "Tokens of an answer as the server counts them (usage.completion_tokens, reasoning included). Where it doesn't say, "
         "events with text are counted instead, and the figures are marked as estimated.",
    "TPOT": "Time per output token of one request: (last token - first token) / (N - tokens in the first event). A mean over "
            "the answer, so it hides pauses; the gaps show them.",
    "gap": "Time between arrivals of text at the client. It is called ITL, inter-token latency, only where every arrival "
           "brought exactly one token.",
    "stall": "A gap of more than five times the median gap.",
    "E2E": "From sending the request to the last text of its answer; the closing bookkeeping of the stream is not in it.",
    "response": "Open loop only: E2E from the planned sending time instead of the real one, so that waiting for a free "
                "connection counts too.",
    "user tok/s": "What one user sees: 1 / TPOT, at the median.",
    "system tok/s": "Tokens that arrived in the steady window, divided by its length. The steady window lasts from the first "
                    "to the last moment with all requests in flight; ramp-up and the last stragglers are outside. Where there "
                    "is none, the whole run counts.",
    "goodput": "Requests per second that keep every limit given with --slo; a failed request keeps none.",
    "errors": "Failed requests by kind, never in any latency: connect; http_NNN; in_band (an error inside a stream that began "
              "with HTTP 200); protocol (neither HTTP nor JSON); truncated (no finish_reason); stall and timeout (nothing came, "
              "or not everything, within the limit); empty (no token). short is no failure of the server: the answer ended by "
              "itself before the length asked for, so its times can't be compared with the others.",
    "percentiles": "Linear interpolation between the nearest ranks. Below 100 values a p99 would be a guess: the maximum is shown "
                   "instead.",
    "client lag": "How much later than the kernel this program read what had arrived. With kernel stamps a lag falsifies nothing "
                  "until reads merge; above 10 % of TPOT a banner says so, and whether the times still hold.",
    "stamps": "kernel: arrivals are dated by the kernel when the network layer takes a segment in. user and tls: by the program when "
              "a read returns, where the kernel's stamps can't be had. stepped: the wall clock was set during the request.",
    "cached tokens": "Prompt tokens that came out of the server's prefix cache. Each prompt begins with a nonce, so that this "
                     "should be near 0 unless --warm was given.",
    "joules per token": "Energy of the GPU over the steady work, divided by the tokens. On a Spark this is the GPU's rail, not the "
                        "wall socket.",
    "roofline": "The bytes that one token must read (active weights and KV cache) over the memory bandwidth: no decoding with these "
                "bytes can be faster. At one user only, since a batch shares the reading.",
}


def text(name: str | None = None, width: int = 100) -> str:
    """All definitions, or those whose name holds `name`; "" when there is none."""
    from textwrap import fill

    wanted = (name or "").lower()
    return "\n\n".join(fill(f"{key}: {said}", width, subsequent_indent="    ") for key, said in DEFINITIONS.items()
                       if wanted in key.lower())
