"""The pages are good mdoc, and what they refer to is there."""
import re
import subprocess
import unittest

from pages import MAN, ROOT, all_pages

# Pages of others that ours refer to.
FOREIGN = {"blkid(8)", "fio(1)", "fstab(5)", "fusermount3(1)", "journalctl(1)", "losetup(8)", "mkfs(8)", "mount(8)", "nbd-client(8)",
           "nbdcopy(1)", "nbdinfo(1)", "qemu-img(1)", "rdma(8)", "rping(1)", "systemctl(1)", "systemd(1)", "systemd.mount(5)",
           "systemd.unit(5)", "udev(7)", "unix(7)", "sysfs(5)", "bash(1)", "modprobe(8)", "umount(8)", "nbdkit(1)", "write(2)"}


class Lint(unittest.TestCase):
    def test_mandoc_finds_nothing_wrong(self):
        for page in all_pages():
            result = subprocess.run(["mandoc", "-Tlint", str(page.path)], capture_output=True, text=True)
            # Whether a page is installed on this machine says nothing: see the next test.
            findings = [line for line in (result.stdout + result.stderr).splitlines()
                        if "referenced manual not found" not in line and "outdated mandoc.db" not in line]
            self.assertEqual(findings, [], page.name)

    def test_every_reference_is_to_a_page_there_is(self):
        ours = {f"{p.stem}({p.suffix[1:]})" for p in MAN.glob("*.[1-9]")}
        for page in all_pages():
            for name, section in sorted(page.references):
                self.assertIn(f"{name}({section})", ours | FOREIGN, page.name)

    def test_every_page_is_referred_to_by_rnbd_8(self):
        seen = {f"{n}.{s}" for p in all_pages() if p.name == "rnbd.8" for n, s in p.references}
        for page in all_pages():
            if page.name != "rnbd.8":
                self.assertIn(page.name, seen)

    def test_no_line_is_too_wide_for_a_terminal(self):
        for page in all_pages():
            text = subprocess.run(["mandoc", "-Tutf8", "-O", "width=80", str(page.path)], capture_output=True, text=True).stdout
            for line in re.sub(".\b", "", text).splitlines():
                self.assertLessEqual(len(line), 80, f"{page.name}: {line}")

    def test_the_pages_stand_alone(self):
        for page in all_pages():
            self.assertNotRegex(page.source, r"\b(TODO|FIXME|XXX)\b|" + re.escape(str(ROOT)), page.name)


if __name__ == "__main__":
    unittest.main()
