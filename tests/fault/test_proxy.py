"""The proxy does what its methods say, seen from both ends with plain sockets."""
import socket
import time
import unittest

from faults import wait_until
from proxy import Proxy


class ProxyItself(unittest.TestCase):
    def setUp(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.listener.close)
        self.proxy = Proxy(self.listener.getsockname()[1])
        self.addCleanup(self.proxy.close)
        self.client, self.server = self.connect()

    def connect(self):
        client = socket.create_connection(("127.0.0.1", self.proxy.port), timeout=10)
        self.addCleanup(client.close)
        self.listener.settimeout(10)
        server, _ = self.listener.accept()
        server.settimeout(10)
        self.addCleanup(server.close)
        wait_until(lambda: self.proxy.links, "the connection")
        return client, server

    def receive(self, sock, count):
        data = b""
        while len(data) < count:
            piece = sock.recv(count - len(data))
            if not piece:
                break
            data += piece
        return data

    def arrives_not(self, sock, seconds=0.1):
        sock.settimeout(seconds)
        with self.assertRaises(TimeoutError):
            sock.recv(1)
        sock.settimeout(10)

    def test_bytes_pass_both_ways_in_order(self):
        data = bytes(range(256)) * 4096
        self.client.sendall(data[:1000])
        self.assertEqual(self.receive(self.server, 1000), data[:1000])
        self.server.sendall(data[:100000])
        self.assertEqual(self.receive(self.client, 100000), data[:100000])

    def test_cut_resets_both_ends_and_new_connections_pass(self):
        self.proxy.cut()
        for end in (self.client, self.server):
            with self.assertRaises(ConnectionResetError):
                end.recv(1)
        client, server = self.connect()
        client.sendall(b"x")
        self.assertEqual(server.recv(1), b"x")

    def test_half_close_ends_one_direction_only(self):
        self.proxy.half_close("up")
        self.assertEqual(self.server.recv(1), b"")
        self.server.sendall(b"y")
        self.assertEqual(self.client.recv(1), b"y")

    def test_a_black_hole_of_one_direction_leaves_the_other(self):
        self.proxy.black_hole("up")
        self.client.sendall(b"x")
        self.server.sendall(b"y")
        self.assertEqual(self.client.recv(1), b"y")
        self.arrives_not(self.server)

    def test_after_a_black_hole_the_stream_goes_on_without_a_hole(self):
        self.proxy.black_hole()
        self.client.sendall(b"first")
        self.arrives_not(self.server)
        self.proxy.heal()
        self.client.sendall(b"second")
        self.assertEqual(self.receive(self.server, 11), b"firstsecond")

    def test_a_reset_does_not_pass_a_black_hole(self):
        self.proxy.black_hole()
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.client.close()
        self.arrives_not(self.server)

    def test_held_bytes_arrive_after_their_sender_is_gone(self):
        self.proxy.hold()
        self.client.sendall(b"late write")
        wait_until(lambda: self.proxy.held_bytes() == 10, "the bytes to be held")
        self.proxy.cut_client()
        with self.assertRaises(ConnectionResetError):
            self.client.recv(1)
        self.arrives_not(self.server)
        self.proxy.deliver()
        self.assertEqual(self.receive(self.server, 10), b"late write")

    def test_refused_and_silent_connections(self):
        self.proxy.refuse()
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", self.proxy.port))
        self.proxy.accept_silently()
        silent = socket.create_connection(("127.0.0.1", self.proxy.port))
        self.addCleanup(silent.close)
        wait_until(lambda: self.proxy.silent, "the connection to be accepted")
        self.arrives_not(silent)
        self.proxy.accept()
        with self.assertRaises(ConnectionResetError):
            silent.recv(1)
        self.connect()

    def test_delay_throttle_and_small_segments_keep_the_bytes(self):
        self.proxy.shape(delay_s=0.05, bytes_per_s=1 << 20, segment=7)
        data = bytes(range(256)) * 4
        started = time.monotonic()
        self.client.sendall(data)
        self.assertEqual(self.receive(self.server, len(data)), data)
        self.assertGreater(time.monotonic() - started, 0.04)


if __name__ == "__main__":
    unittest.main()
