"""A TCP proxy that does what networks do: one Proxy is one path, with an address of its own on both of its sides.

    with Proxy(server_port, host="127.0.0.2") as path:    # clients connect to path.host, path.port
        path.cut()                                        # every connection is reset, new ones pass
        path.black_hole("up")                             # nothing arrives any more, nobody is told; heal() lets it flow again
        path.hold(); path.cut_client(); path.deliver() # a write that was delayed in the network

All proxies of a process share one thread; their methods may be called from any, and have happened when they return.
A byte taken from one side is delivered in its order or its connection dies: no stream ever goes on behind a hole.
"Up" is from the client to the server, "down" the other way.
"""
import asyncio
import collections
import errno
import socket
import struct
import threading

CHUNK = 256 * 1024
QUEUE_MAX = 256 * 1024  # bytes under way in one direction, unless held
LISTEN_BACKLOG = 128
DIRECTIONS = {"up": ("up",), "down": ("down",), "both": ("up", "down")}


class _Loop:
    """The thread of all proxies."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="fault proxy", daemon=True)
        self.thread.start()

    def call(self, function, *arguments):
        async def run():
            return function(*arguments)

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(30)


_loop = None
_loop_lock = threading.Lock()


def _shared_loop():
    global _loop
    with _loop_lock:
        if _loop is None:
            _loop = _Loop()
        return _loop


def _abort(sock):
    """Closes with a reset: what was not sent is dropped."""
    if sock.fileno() < 0:
        return
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        pass
    sock.close()


class _Rules:
    """What happens to the bytes of one direction of a path."""

    def __init__(self):
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.held = False  # taken without bound, delivered when it flows again
        self.delay_s = 0.0
        self.bytes_per_s = 0
        self.segment = 0


class _Direction:
    """One direction of one connection: taken from `source`, queued, delivered to `sink`."""

    def __init__(self, link, rules, source, sink):
        self.link, self.rules, self.source, self.sink = link, rules, source, sink
        self.queue = collections.deque()  # (when it may be delivered, bytes; b"" is the end of the stream)
        self.queued = 0
        self.changed = asyncio.Event()
        self.discard = False  # the receiver of these bytes is gone
        loop = asyncio.get_running_loop()
        self.tasks = [loop.create_task(self._take()), loop.create_task(self._deliver())]

    async def _take(self):
        loop = asyncio.get_running_loop()
        try:
            while True:
                while not self.rules.held and (self.queued >= QUEUE_MAX or not self.rules.flowing.is_set()):
                    self.changed.clear()
                    await self.changed.wait()
                data = await loop.sock_recv(self.source, CHUNK)
                self.queue.append((loop.time() + self.rules.delay_s, data))
                self.queued += len(data)
                self.changed.set()
                if not data:
                    return
        except OSError:
            self.link.side_died(self.source)

    async def _deliver(self):
        loop = asyncio.get_running_loop()
        try:
            while True:
                while not self.queue or not self.rules.flowing.is_set():
                    self.changed.clear()
                    await self.changed.wait()
                when, data = self.queue[0]
                if when > loop.time():
                    await asyncio.sleep(when - loop.time())
                    continue
                self.queue.popleft()
                if not data:
                    self.link.ended(self)
                    return
                if not self.discard:
                    await self._send(data)
                self.queued -= len(data)
                self.changed.set()
        except OSError:
            self.link.side_died(self.sink)

    async def _send(self, data):
        loop = asyncio.get_running_loop()
        step = self.rules.segment or len(data)
        for at in range(0, len(data), step):
            await self.rules.flowing.wait()  # a fault may come in the middle of a message
            piece = data[at:at + step]
            await loop.sock_sendall(self.sink, piece)
            if self.rules.bytes_per_s:
                await asyncio.sleep(len(piece) / self.rules.bytes_per_s)


class _Link:
    """One connection: the client's socket, the server's, and a direction each way."""

    def __init__(self, proxy, client, server):
        self.proxy, self.client, self.server = proxy, client, server
        for sock in (client, server):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.up = _Direction(self, proxy.rules["up"], client, server)
        self.down = _Direction(self, proxy.rules["down"], server, client)
        self.ends = 0
        self.orphaned = False  # its client was cut off; what it had sent is still under way

    def ended(self, direction):
        try:
            direction.sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        self.ends += 1
        if self.ends == 2:
            self.abort(reset=False)

    def side_died(self, sock):
        if self.orphaned and sock is self.client:
            return
        # A reset travels like bytes do: not through a black hole.
        other = self.up if sock is self.client else self.down
        if other.rules.flowing.is_set():
            self.abort()
        else:
            self.proxy.waiting_resets.append(self)

    def abort(self, reset=True):
        for task in self.up.tasks + self.down.tasks:
            if task is not asyncio.current_task():
                task.cancel()
        for sock in (self.client, self.server):
            _abort(sock) if reset else sock.close()
        self.proxy.links.discard(self)

    def cut_client(self):
        self.orphaned = True
        for task in self.down.tasks + self.up.tasks[:1]:
            task.cancel()
        _abort(self.client)
        self.down.discard = True
        self.down.tasks = [asyncio.get_running_loop().create_task(self._drain())]

    async def _drain(self):
        """The server may answer for ever: nobody hears it."""
        try:
            while await asyncio.get_running_loop().sock_recv(self.server, CHUNK):
                pass
        except OSError:
            pass
        self.abort()


class Proxy:
    def __init__(self, target_port, port=0, host="127.0.0.1"):
        self.target = ("127.0.0.1", target_port)
        self.host = host
        self.port = port
        self.links = set()
        self.silent = []  # accepted, and never answered
        self.waiting_resets = []
        self.accepted = 0
        self._mode = "pass"
        self._loop = _shared_loop()
        self._listener = self._accepting = None
        self._call(self._open)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._call(self._close)

    # --- whole connections ---------------------------------------------------------------------------
    def cut(self):
        """Resets every connection on both sides. New ones are accepted as before."""
        self._call(self._cut)

    def half_close(self, direction="up"):
        """The stream of one direction ends as if its sender had shut it down."""
        self._call(self._half_close, direction)

    def refuse(self):
        """Nobody listens; what is connected stays. accept() ends it."""
        self._call(self._stop_listening)

    def accept_silently(self):
        """New connections are accepted and never answered (half-open). accept() ends it and cuts them."""
        self._call(self._set_mode, "silent")

    def accept(self):
        self._call(self._set_mode, "pass")

    # --- bytes ---------------------------------------------------------------------------------------
    def black_hole(self, direction="both"):
        """Nothing is delivered any more and nobody is told, neither of resets; new connections hang."""
        self._call(self._stop, direction, False)

    def hold(self, direction="up"):
        """As a network that delays: what is sent is taken, all of it, and kept until deliver()."""
        self._call(self._stop, direction, True)

    def cut_client(self):
        """The client's sides are reset; the server does not learn of it, and what was held stays under way to it."""
        self._call(lambda: [link.cut_client() for link in list(self.links)])

    def held_bytes(self):
        return self._call(lambda: sum(link.up.queued for link in self.links))

    def heal(self):
        """Bytes flow again, first those under way."""
        self._call(self._heal)

    deliver = heal

    def shape(self, direction="both", delay_s=0.0, bytes_per_s=0, segment=0):
        """Delays each byte, limits the rate, delivers in pieces of `segment` bytes; without values: not any more."""
        self._call(self._shape, direction, delay_s, bytes_per_s, segment)

    # --- on the loop ---------------------------------------------------------------------------------
    def _call(self, function, *arguments):
        return self._loop.call(function, *arguments)

    def _open(self):
        self.rules = {"up": _Rules(), "down": _Rules()}
        self._listen()

    def _listen(self):
        if self._listener:
            return
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self.host, self.port))
        listener.listen(LISTEN_BACKLOG)
        listener.setblocking(False)
        self.port = listener.getsockname()[1]
        self._listener = listener
        self._accepting = asyncio.get_running_loop().create_task(self._accept(listener))

    def _stop_listening(self):
        if self._listener:
            self._accepting.cancel()
            self._listener.close()
            self._listener = None

    async def _accept(self, listener):
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, _ = await loop.sock_accept(listener)
            except OSError as error:
                if error.errno not in (errno.ECONNABORTED, errno.EMFILE):
                    return
                await asyncio.sleep(0.01)
                continue
            client.setblocking(False)
            self.accepted += 1
            if self._mode == "silent" or not self.rules["up"].flowing.is_set():
                self.silent.append(client)
            else:
                loop.create_task(self._connect(client))

    async def _connect(self, client):
        server = socket.socket()
        server.setblocking(False)
        server.bind((self.host, 0))  # the server tells paths by their addresses
        try:
            await asyncio.get_running_loop().sock_connect(server, self.target)
        except OSError:
            server.close()
            _abort(client)
            return
        self.links.add(_Link(self, client, server))

    def _set_mode(self, mode):
        self._mode = mode
        if mode == "pass":
            self._cut_silent()
        self._listen()

    def _cut_silent(self):
        for sock in self.silent:
            _abort(sock)
        self.silent.clear()

    def _cut(self):
        for link in list(self.links):
            link.abort()
        self.waiting_resets.clear()

    def _half_close(self, direction):
        for link in list(self.links):
            sink = link.server if direction == "up" else link.client
            try:
                sink.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # it died by itself a moment ago

    def _stop(self, direction, held):
        for name in DIRECTIONS[direction]:
            self.rules[name].flowing.clear()
            self.rules[name].held = held
        self._wake()

    def _heal(self):
        for rules in self.rules.values():
            rules.flowing.set()
            rules.held = False
        self._wake()
        self._cut_silent()  # they come again
        for link in self.waiting_resets:
            link.abort()
        self.waiting_resets.clear()

    def _shape(self, direction, delay_s, bytes_per_s, segment):
        for name in DIRECTIONS[direction]:
            rules = self.rules[name]
            rules.delay_s, rules.bytes_per_s, rules.segment = delay_s, bytes_per_s, segment
        self._wake()

    def _wake(self):
        for link in self.links:
            link.up.changed.set()
            link.down.changed.set()

    def _close(self):
        self._stop_listening()
        self._cut()
        self._cut_silent()
