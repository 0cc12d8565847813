"""A machine without RDMA, or programs built without it: what needs RDMA is refused in words that say what is missing,
everything else works."""
import os
import unittest

from harness import BIN, MIB, EndToEnd, free_port, run

BUILT = os.environ.get("RNBD_BUILT_WITH_RDMA", "1") != ""


@unittest.skipIf(os.path.isdir("/sys/class/infiniband") and os.listdir("/sys/class/infiniband"),
                 "this machine has an RDMA device")
class WithoutRdma(EndToEnd):
    missing = "no RDMA device" if BUILT else "this build has no RDMA"

    def refused(self, result, status, *words):
        self.assertEqual(result.returncode, status, result.stderr)
        for word in words:
            self.assertIn(word, result.stderr)

    def start_with(self, program, section, line):
        config = self.dir / "rdma.toml"
        config.write_text(f'[{section}]\nadmin_socket = "{self.dir}/rdma-admin.sock"\n{line}\n')
        return run(BIN / program, "--config", config, check=False, timeout=20)

    def test_rdma_on_keeps_both_daemons_from_starting(self):
        self.refused(self.start_with("rnbd-client", "client", 'rdma = "on"'), 9, self.missing, 'rdma = "auto"')
        self.refused(self.start_with("rnbd-server", "server", f'dev_search_path = "{self.volumes}"\nrdma = "on"'), 9,
                     self.missing, 'rdma = "auto"')

    def test_listening_on_an_rdma_address_fails_instead_of_listening_by_tcp(self):
        for address in ("rdma:127.0.0.1", "gid:fe80::1"):
            result = run(BIN / "rnbd-server", self.volumes, "--listen", address, "--port", free_port(), check=False, timeout=20)
            self.refused(result, 9, self.missing, address.split(":")[1])

    def test_a_path_by_rdma_is_unreachable_and_ip_and_tcp_paths_are_not(self):
        self.volume("disk0", MIB)
        self.start_server()
        self.start_client()
        for path in ("rdma:127.0.0.1", "gid:fe80::1"):
            result = self.rnbd("map", "sessname=a", f"dest_port={self.port}", f"path={path}", "device_path=disk0", check=False)
            self.refused(result, 6, self.missing, "tcp:")
        for session, path in (("b", "ip:127.0.0.1"), ("c", "tcp:127.0.0.1")):
            self.rnbd("map", f"sessname={session}", f"dest_port={self.port}", f"path={path}", "device_path=disk0",
                      "access_mode=ro")
        self.assertEqual(len(self.devices()), 2)

    def test_rdma_off_says_that_it_is_off(self):
        self.start_client(extra='rdma = "off"')
        result = self.rnbd("map", "sessname=a", "path=rdma:127.0.0.1", "device_path=disk0", check=False)
        self.refused(result, 6, "RDMA is off" if BUILT else self.missing)


if __name__ == "__main__":
    unittest.main()
