"""The checker catches what it is there for: whole programs, on files that are changed behind its back."""
import json
import shutil

from faults import BIN, BLOCKS, Faults, run

BLOCK = 4096


class Checker(Faults):
    def setUp(self):
        super().setUp()
        self.files = [self.volume(f"plain{i}", BLOCKS * BLOCK) for i in range(2)]
        self.stamp("--operations=4000")

    def stamp(self, *options, status=0):
        result = run(BIN / "rnbd-stamp", *self.files, f"--blocks={BLOCKS}", f"--state={self.dir / 'state'}", *options,
                     check=False)
        self.assertEqual(result.returncode, status, result.stdout + result.stderr)
        return json.loads(result.stdout)

    def verify(self, *options, status):
        return self.stamp("--verify-only", *options, status=status)["violations"]

    def copy_block(self, source, block, target, to=None):
        with open(source, "rb") as f:
            f.seek(block * BLOCK)
            data = f.read(BLOCK)
        with open(target, "r+b") as f:
            f.seek((block if to is None else to) * BLOCK)
            f.write(data)

    def stamped_blocks(self):
        """Blocks that hold data in the first file."""
        data = self.files[0].read_bytes()
        return [i for i in range(BLOCKS) if any(data[i * BLOCK:i * BLOCK + 8])]

    def test_what_was_written_verifies_again_and_again(self):
        self.assertEqual(self.verify(status=0), [])
        self.stamp("--operations=500", "--seed=2")
        self.assertEqual(self.verify(status=0), [])

    def test_an_older_content_of_the_device_is_stale(self):
        old = self.dir / "old"
        shutil.copy(self.files[0], old)
        self.stamp("--operations=2000", "--seed=2")
        shutil.copy(old, self.files[0])
        self.assertTrue(any("stale" in line for line in self.verify(status=1)))

    def test_a_block_of_another_device_or_place_is_caught(self):
        block, other = self.stamped_blocks()[:2]
        self.copy_block(self.files[0], block, self.files[1])
        self.assertIn("bytes of device 1", self.verify(status=1)[0])
        self.copy_block(self.files[0], block, self.files[0], to=other)
        self.assertIn(f"bytes of block {block}", self.verify(status=1)[0])

    def test_a_torn_block_is_caught(self):
        block = self.stamped_blocks()[0]
        with open(self.files[0], "r+b") as f:
            f.seek(block * BLOCK + 2048)
            f.write(bytes(2048))
        self.assertIn("zeros", self.verify(status=1)[0])


if __name__ == "__main__":
    import unittest
    unittest.main()
