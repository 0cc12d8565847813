"""Where a server listens."""
import socket
import subprocess
import unittest

from harness import BIN, MIB, EndToEnd


def need_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(("::1", 0))
    except OSError:
        raise unittest.SkipTest("this machine has no IPv6")


class Listen(EndToEnd):
    def setUp(self):
        super().setUp()
        need_ipv6()
        self.volume("disk0", MIB)

    def test_both_families_are_served_in_whatever_order_they_are_named(self):
        for first, listen in enumerate(('["ip:0.0.0.0", "ip:::"]', '["ip:::", "ip:0.0.0.0"]', '["ip:127.0.0.1", "ip:::1"]')):
            server = self.start_server(listen=listen)
            self.start_client()
            for address in ("ip:127.0.0.1", "ip:::1"):
                self.rnbd("map", f"sessname=s{first}", f"dest_port={self.port}", f"path={address}", "device_path=disk0")
                self.rnbd("unmap", "rnbd0")
            self.assertEqual(self.client.terminate(), 0)
            self.assertEqual(server.terminate(), 0)

    def test_an_address_that_another_one_takes_along_is_refused_in_words(self):
        for listen in ('["ip:127.0.0.1", "ip:::"]', '["ip:::", "ip:127.0.0.1"]'):
            config = self.dir / "server.toml"
            config.write_text(f'[server]\nport_nr = {self.port}\nlisten = {listen}\ndev_search_path = "{self.volumes}"\n'
                              f'admin_socket = "{self.dir}/server-admin.sock"\n')
            ended = subprocess.run([BIN / "rnbd-server", "--config", config], capture_output=True, text=True, timeout=30)
            self.assertNotEqual(ended.returncode, 0)
            self.assertIn("ip::: takes IPv4 as well", ended.stderr)


if __name__ == "__main__":
    unittest.main()
