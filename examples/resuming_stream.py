"""A chat whose stream outlives its connection: lost in the middle, and continued where it was.

Needs ``pip install pyllama-engine[client]``. Starts a server with the bundled model and ends it again.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from typing import Any

from pyllama.client import ResumingStream, SyncResumingStream

CHAT = {"messages": [{"role": "user", "content": "What is 17 + 25?"}], "temperature": 0}


def text_of(chunk: dict[str, Any]) -> str:
    deltas = [choice["delta"] for choice in chunk["choices"]]
    return "".join((delta.get("reasoning_content") or "") + (delta.get("content") or "") for delta in deltas)


def in_two_parts(url: str) -> str:
    """Read a few chunks, lose the stream, and read on from another object: a reloaded page would."""
    seen = []
    with SyncResumingStream(url, CHAT) as stream:
        for chunk in stream:
            seen.append(text_of(chunk))
            if len(seen) == 5:
                break
    print("lost behind:", "".join(seen))
    where = {"conversation_id": stream.conversation_id, "position": stream.position}
    with SyncResumingStream(url, None, **where) as stream:
        seen += [text_of(chunk) for chunk in stream]
    return "".join(seen)


async def in_one(url: str) -> str:
    """The same answer over a WebSocket. Failing connections are replaced without a word."""
    async with ResumingStream(url, CHAT, over="socket") as stream:
        return "".join([text_of(chunk) async for chunk in stream])


def main() -> None:
    command = [sys.executable, "-P", "-m", "pyllama.cli", "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            said = iter(server.stdout or ())
            url = next(found[1] for line in said if (found := re.search(r"ready on (http://\S+)", line)))
            parts, whole = in_two_parts(url), asyncio.run(in_one(url))
            print(whole)
            print("same text:", parts == whole)
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
