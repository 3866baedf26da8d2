"""An echo server on asyncio: a Protocol for each connection, as its documentation has it, on the default event loop.

Not streams and coroutines, which cost more and are not needed for this. One thread; TCP_NODELAY is asyncio's default. While
a peer does not read, it is not read from: the transport says when.
"""

import asyncio
import resource
import signal
import sys


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)

    def pause_writing(self):
        self.transport.pause_reading()

    def resume_writing(self):
        self.transport.resume_reading()


async def main(host, port):
    loop = asyncio.get_running_loop()
    terminated = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, terminated.set)
    server = await loop.create_server(Echo, host, port, backlog=4096)
    print("%s:%d" % server.sockets[0].getsockname(), flush=True)
    await terminated.wait()


_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
address, _, number = sys.argv[1].partition(":")
asyncio.run(main(address, int(number)))
