"""Opens connections to a server that say nothing, and sees which of them the server keeps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

GET = b"GET %b HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@dataclass
class Sockets:
    """Open connections to one port of this machine."""

    port: int
    opened: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=list)

    async def open(self, count: int = 1, address: str = "127.0.0.1") -> None:
        """Open `count` connections from `address`."""
        for _ in range(count):
            source = (address, 0)
            self.opened.append(await asyncio.open_connection("127.0.0.1", self.port, local_addr=source))

    async def ask(self, path: str, number: int = -1) -> bytes:
        """Send a request on an open connection, and return the first line of its answer."""
        reader, writer = self.opened[number]
        writer.write(GET % path.encode())
        return await asyncio.wait_for(reader.readline(), 20)

    async def refusal(self, address: str = "127.0.0.1") -> bytes:
        """Open a connection, send nothing, and return all that arrives until it is closed."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(address, 0))
        try:
            return await asyncio.wait_for(reader.read(), 20)
        finally:
            writer.close()

    async def close(self, count: int) -> None:
        """Close the newest `count` connections."""
        for _ in range(count):
            self.opened.pop()[1].close()

    async def accepted(self, path: str, address: str = "127.0.0.1") -> None:
        """Open a connection that is served, as soon as the server has noticed that others were closed."""
        async with asyncio.timeout(20):
            while True:
                await self.open(1, address)
                with suppress(ConnectionError):
                    if b" 503 " not in await self.ask(path):
                        return
                await self.close(1)


@asynccontextmanager
async def sockets(port: int) -> AsyncIterator[Sockets]:
    """Close all connections at the end."""
    opened = Sockets(port)
    try:
        yield opened
    finally:
        await opened.close(len(opened.opened))
