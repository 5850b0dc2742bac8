"""How `jaxsafety serve` bears a load: a real server process, asked over HTTP.

    python tools/serve_bench.py [--model=DIR] [--streams=64] [--requests=10000] [--tokens=48]

Prints one JSON line: whether every stream got the text that the model says alone, p50 and p99 of
the first piece and of the whole answer, the time of 16 streams at once against one after the other
(in this one run), and the server's memory before and after many requests. Needs httpx.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np

import jaxsafety

ASKED = (
    "what is {} plus {} ?",
    "which is larger , {} or {} ?",
    "tell me about {} and {} .",
    "sort {} , {} , 7 .",
)


def start(model: str) -> tuple[subprocess.Popen[str], str]:
    """A server on a free port, and its address."""
    command = [sys.executable, "-m", "jaxsafety", "serve", "--port=0", "--queue=1024"]
    if model:
        command += [f"--model={model}", "--name=organism"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ)
    assert process.stdout is not None
    return process, process.stdout.readline().split(" at ")[1].split("/v1")[0]


def memory(pid: int) -> float:
    """Resident MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


async def stream(client: httpx.AsyncClient, text: str, tokens: int) -> tuple[str, float, float]:
    """What is said, and seconds to the first piece and to the end."""
    body = {"messages": [{"role": "user", "content": text}], "temperature": 0, "stream": True}
    begun, first, said = time.perf_counter(), 0.0, []
    async with client.stream(
        "POST", "/v1/chat/completions", json={**body, "max_tokens": tokens}
    ) as told:
        assert told.status_code == 200, await told.aread()
        async for line in told.aiter_lines():
            if line.startswith("data: {"):
                piece = json.loads(line[6:])["choices"][0]["delta"].get("content", "")
                if piece and not first:
                    first = time.perf_counter() - begun
                said.append(piece)
    return "".join(said), first, time.perf_counter() - begun


async def measure(url: str, pid: int, args: argparse.Namespace) -> dict[str, object]:
    """All of it, on one client."""
    asked = [
        ASKED[number % len(ASKED)].format(number + 3, number % 7 + 2)
        for number in range(args.streams)
    ]
    limits = httpx.Limits(max_connections=args.streams)
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=limits) as client:
        for _ in range(2):  # compiles, for one and for several
            await stream(client, asked[0], args.tokens)
            await asyncio.gather(*(stream(client, text, args.tokens) for text in asked))
        found = await asyncio.gather(*(stream(client, text, args.tokens) for text in asked))
        begun = time.perf_counter()
        for text in asked[:16]:
            await stream(client, text, args.tokens)
        one = time.perf_counter() - begun
        begun = time.perf_counter()
        await asyncio.gather(*(stream(client, text, args.tokens) for text in asked[:16]))
        together = time.perf_counter() - begun
        before, left = memory(pid), args.requests
        half = before
        while left > 0:
            part = min(left, args.streams)
            await asyncio.gather(*(stream(client, text, 4) for text in asked[:part]))
            left -= part
            if left <= args.requests // 2 and half == before:
                half = memory(pid)
    waits, whole = ([row[place] for row in found] for place in (1, 2))
    percent = lambda x: [round(float(np.percentile(x, q)), 4) for q in (50, 99)]  # noqa: E731
    return {
        "streams": args.streams,
        "texts": [row[0] for row in found],
        "asked": asked,
        "first_s": percent(waits),
        "whole_s": percent(whole),
        "one_after_the_other_s": round(one, 3),
        "at_once_s": round(together, 3),
        "ratio": round(one / together, 2),
        "requests": args.requests,
        "mib": [round(x, 1) for x in (before, half, memory(pid))],
    }


def main() -> None:
    """Prints the line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="")
    for name, usual in (("streams", 64), ("requests", 10_000), ("tokens", 48)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    args = parser.parse_args()
    process, url = start(args.model)
    try:
        found = asyncio.run(measure(url, process.pid, args))
    finally:
        process.terminate()
        process.wait(60)
    model, params, tokenizer = jaxsafety.load(args.model) if args.model else jaxsafety.load()
    asked: list[str] = found.pop("asked")  # type: ignore[assignment]
    cfg = jaxsafety.SampleConfig(args.tokens, 0.0, stop=tuple(tokenizer.eos_ids))
    prompts = [
        jaxsafety.encode_prompt(tokenizer, [jaxsafety.Message("user", text)]) for text in asked
    ]
    alone = jaxsafety.generate(model, params, tokenizer, prompts, cfg, seed=0)
    right = [tokenizer.decode(answer[0].ids) for answer in alone]
    texts = found.pop("texts")
    assert isinstance(texts, list)
    found["equal"] = sum(a == b for a, b in zip(texts, right, strict=True))
    print(json.dumps({**found, "load": os.getloadavg()[0], "cores": os.cpu_count()}))


if __name__ == "__main__":
    main()
