"""A host that moves to another address takes its path along."""
import os
import unittest

from faults import EndToEnd, Faults, run, wait_until
from proxy import Proxy


class Moved(Faults):
    def setUp(self):
        if os.geteuid() != 0:
            raise unittest.SkipTest("a hosts file of its own needs root")
        EndToEnd.setUp(self)  # without the checker
        self.hosts = self.dir / "hosts"
        self.host_is_at("127.0.0.2")
        if run("unshare", "-m", "mount", "--bind", self.hosts, "/etc/hosts", check=False).returncode != 0:
            raise unittest.SkipTest("no mount namespaces here")
        self.prefixes["rnbd-client"] = ["unshare", "-m", "sh", "-c",
                                        f'mount --bind {self.hosts} /etc/hosts; exec "$@"', "sh"]

    def host_is_at(self, address):
        self.hosts.write_text(f"{address} st4.test\n")

    def proxy(self, host, port=0):
        proxy = Proxy(self.port, host=host, port=port)
        self.addCleanup(proxy.close)
        return proxy

    def paths(self):
        session = self.rnbd_json("client", "list", "sessions")["sessions"][0]
        return {p["destination"]: p["state"] for p in session["paths"]}

    def test_a_path_given_by_name_follows_its_host_beside_one_that_lives(self):
        self.both()
        self.volume("disk0", 1 << 20)
        stays = self.proxy("127.0.0.4")
        left = self.proxy("127.0.0.2", stays.port)
        self.rnbd("map", "sessname=e2e", f"dest_port={stays.port}", "path=ip:127.0.0.4", "path=host:st4.test",
                  "device_path=disk0")
        wait_until(lambda: self.paths() == {"ip:127.0.0.4": "connected", "ip:127.0.0.2": "connected"}, "both paths")
        self.host_is_at("127.0.0.3")
        self.proxy("127.0.0.3", stays.port)
        left.close()
        wait_until(lambda: self.paths() == {"ip:127.0.0.4": "connected", "ip:127.0.0.3": "connected"},
                   "the path to follow")
        # Its name goes along: once more, to a successor.
        self.client.kill()
        self.restart_client()
        wait_until(lambda: self.devices() and self.is_open(), "the volume to be back")
        wait_until(lambda: self.paths() == {"ip:127.0.0.4": "connected", "ip:127.0.0.3": "connected"}, "both paths")


if __name__ == "__main__":
    unittest.main()
