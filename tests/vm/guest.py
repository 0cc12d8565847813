"""The guests of one run: starting QEMU, streaming what the scripts say, doing what they ask of the host, stopping in time."""
import ctypes
import json
import mmap
import os
import platform
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
OWN_FOLDERS = ("tmp", "run", "var", "mnt", "dev", "proc", "sys")
KERNEL_OPTIONS = (
    "console=ttyS0 ignore_loglevel printk.time=1 printk.devkmsg=on "
    "oops=panic panic=-1 "  # an oops ends the guest at once
    # A starved emulator looks like a stuck processor; a real hang shows as a hung task or a time-out.
    "nowatchdog rcupdate.rcu_cpu_stall_suppress=1 "
    "tsc=reliable mitigations=off random.trust_cpu=1 audit=0 lsm= sysrq_always_enabled "
    "cryptomgr.notests rcupdate.rcu_expedited=1")  # emulated grace periods are slow, device removal waits for hundreds of them
POLL_S = 0.02
DISK_BYTES = 256 << 20  # of a guest with systemd: what outlives its reboots


def processor_clock_khz():
    """The rate of the host's time stamp counter, which is the guest's too; None where there is none.

    A guest that is starved while it starts measures it wrong by factors, and then its clock runs wrong."""
    if platform.machine() != "x86_64":
        return None
    code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(b"\x0f\x31\x48\xc1\xe2\x20\x48\x09\xd0\xc3")  # rdtsc; shl $32, %rdx; or %rdx, %rax; ret
    counter = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(ctypes.c_char.from_buffer(code)))

    def sample():
        """Both clocks at one moment: the try that was interrupted least."""
        tries = ((time.monotonic_ns(), counter(), time.monotonic_ns()) for _ in range(20))
        before, count, after = min(tries, key=lambda one: one[2] - one[0])
        return (before + after) // 2, count

    start, first = sample()
    time.sleep(0.1)
    end, last = sample()
    return (last - first) * 1_000_000 // (end - start)


def die_with_parent():
    """Run in the new process: a guest must not outlive a driver that is killed."""
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def build():
    """Makes what guests boot from, if need be, and returns the folder."""
    made = subprocess.run([HERE / "build"], stdout=subprocess.PIPE, text=True, check=False)
    if made.returncode:
        sys.exit("run: the guest could not be built")
    return Path(made.stdout.strip())


class Qmp:
    """QEMU's control socket."""

    def __init__(self, path):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._lines = self._socket.makefile("rw")
        self._lines.readline()  # the greeting
        self.execute("qmp_capabilities")

    def execute(self, command, **arguments):
        self._lines.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._lines.flush()
        while True:
            answer = json.loads(self._lines.readline() or '{"error": {"desc": "QEMU is gone"}}')
            if "error" in answer:
                raise OSError(answer["error"]["desc"])
            if "return" in answer:
                return answer["return"]


class Guest:
    """One QEMU process."""

    def __init__(self, image, directory, share, number, args):
        self.number = number
        self.status = None
        self._console = directory / f"console.{number}"
        self._qmp_path = directory / f"qmp.{number}"
        self._status_path = share / f"status.{number}"
        self._qmp = None
        self.process = subprocess.Popen(self._command(image, directory, share, args), stdin=None if args.shell else subprocess.DEVNULL,
                                        stdout=None if args.shell else subprocess.PIPE, preexec_fn=die_with_parent)

    def _command(self, image, directory, share, args):
        accel = {"tcg": "tcg" if args.icount else "tcg,thread=multi", "kvm": "kvm"}[args.accel]
        # Without ERMS and FSRM: the emulator counts every byte of a "rep movsb" as an instruction, no real processor does.
        processor = "host" if args.accel == "kvm" else "max,-la57,-erms,-fsrm"
        khz = 1_000_000 if args.icount else processor_clock_khz()
        clock = f"tsc_early_khz={khz} " if khz else ""
        clock += f"sysctl.kernel.hung_task_timeout_secs={0 if args.icount else 60} "  # counted time leaps while the guest waits
        command = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none",
                   "-machine", "pc", "-accel", accel, "-cpu", processor,
                   "-smp", str(1 if args.icount else args.cpus), "-m", str(args.memory),
                   "-kernel", str(image / "vmlinux"), "-initrd", str(image / "initramfs"),
                   "-append", f"{KERNEL_OPTIONS} {clock}lab.number={self.number}",
                   "-qmp", f"unix:{self._qmp_path},server=on,wait=off",
                   "-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap",
                   "-virtfs", f"local,path={share},mount_tag=share,security_model=none",
                   "-device", "virtio-rng-pci"]
        if args.systemd:
            disk = directory / f"disk.{self.number}"
            with open(disk, "wb") as file:
                file.truncate(DISK_BYTES)
            command += ["-drive", f"file={disk},if=virtio,format=raw,cache=unsafe"]
        else:
            command += ["-no-reboot"]
        if args.shell:
            command += ["-serial", "mon:stdio"]
        else:
            command += ["-serial", f"file:{self._console}", "-device", "virtio-serial-pci",
                        "-chardev", "file,id=output,path=/dev/fd/1", "-device", "virtserialport,chardev=output,name=lab.output"]
        if args.icount:
            command += ["-icount", "shift=0,sleep=off"]
        if args.guests == 2:
            here, there = (directory / f"cable.{end}" for end in (self.number, 1 - self.number))
            command += ["-netdev", f"dgram,id=cable,local.type=unix,local.path={here},remote.type=unix,remote.path={there}",
                        "-device", f"virtio-net-pci,netdev=cable,id=nic,host_mtu=9000,mac=52:54:00:00:00:0{self.number + 1}"]
        return command

    def control(self, command, **arguments):
        if not self._qmp:
            self._qmp = Qmp(self._qmp_path)
        return self._qmp.execute(command, **arguments)

    def show_blocked_tasks(self):
        """Has the kernel log who waits for what."""
        for letter in ("w",):
            keys = [{"type": "qcode", "data": key} for key in ("alt", "sysrq", letter)]
            self.control("send-key", keys=keys)
            time.sleep(1)

    def kernel_text(self):
        return self._console.read_text(errors="replace").replace("\r", "") if self._console.exists() else ""

    def end(self):
        self.process.kill()
        self.process.wait()

    def read_status(self):
        if self._status_path.exists():
            self.status = int(self._status_path.read_text() or EXIT_UNREADABLE)
        return self.status


EXIT_UNREADABLE = 126


class Lab:
    """All guests of a run and the folder they share with the host."""

    def __init__(self, image, directory, args, command, environment):
        self._share = (args.share or directory / "share").resolve()
        self._share.mkdir(parents=True, exist_ok=True)
        self._requests = self._share / "requests"
        for folder in ("requests", "flags"):
            shutil.rmtree(self._share / folder, ignore_errors=True)
            (self._share / folder).mkdir()
        for program in ("start", "main", "systemd"):
            shutil.copy(HERE / "guest" / program, self._share / program)
        (self._share / "command").write_text("exec setsid " + " ".join(shlex.quote(word) for word in command) + "\n")
        self._args = args
        self._deadline = time.monotonic() + args.timeout
        self.guests = []
        for number in range(args.guests):
            (self._share / f"status.{number}").unlink(missing_ok=True)
            self._write_settings(image, number, environment)
        for number in range(args.guests):
            self.guests.append(Guest(image, directory, self._share, number, args))

    def _write_settings(self, image, number, environment):
        load = self._args.load + (" virtio_net" if self._args.guests > 1 else "") + (" virtio_blk ext4 crc32c_generic" if self._args.systemd else "")
        settings = {"LAB_MODULES": image / "root", "LAB_TOOLS": HERE / "guest", "LAB_LOAD": load, "LAB_DIRECTORY": os.getcwd(),
                    "LAB_SHELL": "yes" if self._args.shell else "", "LAB_SYSTEMD": "yes" if self._args.systemd else ""}
        exported = {**environment, "ROLE": number, "LAB_GUESTS": self._args.guests, "LAB_LIB": HERE / "lib.sh"}
        lines = [f"{name}={shlex.quote(str(value))}" for name, value in settings.items()]
        lines += [f"export {name}={shlex.quote(str(value))}" for name, value in exported.items()]
        (self._share / f"settings.{number}").write_text("\n".join(lines) + "\n")

    def run(self, output_path):
        """Runs until all guests are off or time is up; returns whether it was up."""
        if self._args.shell:
            self.guests[0].process.wait()
            self.guests[0].read_status()
            return False
        with open(output_path, "wb") as output:
            streams = [threading.Thread(target=self._stream, args=(guest, output), daemon=True) for guest in self.guests]
            for stream in streams:
                stream.start()
            try:
                timed_out = self._watch()
            finally:
                for guest in self.guests:
                    guest.end()
            for stream in streams:
                stream.join()
        for guest in self.guests:
            guest.read_status()
        return timed_out

    def _stream(self, guest, output):
        label = f"{guest.number}| ".encode() if len(self.guests) > 1 else b""
        for line in guest.process.stdout:
            sys.stdout.buffer.write(label + line)
            sys.stdout.flush()
            output.write(label + line)

    def _watch(self):
        while any(guest.process.poll() is None for guest in self.guests):
            if time.monotonic() > self._deadline:
                for guest in self.guests:
                    self._show_blocked_tasks(guest)
                return True
            self._serve_requests()
            if any(guest.read_status() or (guest.status is None and guest.process.poll() is not None) for guest in self.guests):
                (self._share / "flags/failed").touch()  # whoever waits for that guest waits in vain
            time.sleep(POLL_S)
        return False

    def _show_blocked_tasks(self, guest):
        if guest.process.poll() is None:
            try:
                guest.show_blocked_tasks()
            except OSError as error:
                print(f"run: guest {guest.number} does not answer: {error}", file=sys.stderr)

    def _serve_requests(self):
        """A request is a file with words in it; the answer is the same name with .done."""
        for request in sorted(self._requests.glob("*.ask")):
            words = request.read_text().split()
            request.unlink()
            try:
                self._serve(words)
                answer = "ok"
            except (OSError, ValueError, IndexError) as error:
                answer = f"{type(error).__name__}: {error}"
            done = request.with_suffix(".new")
            done.write_text(answer + "\n")
            done.rename(request.with_suffix(".done"))

    def _serve(self, words):
        guest = self.guests[int(words[1])]
        if words[0] == "stop":
            guest.control("stop")
        elif words[0] == "cont":
            guest.control("cont")
        elif words[0] == "kill":
            guest.process.kill()
        elif words[0] == "link":
            guest.control("set_link", name="nic", up=words[2] == "up")
        else:
            raise ValueError(f"unknown request {words}")
