"""A folder as a slow file server gives it: a mount of another folder in which each request takes its time. Needs root.

It speaks the kernel's protocol (linux/fuse.h) itself, as much of it as a study needs: files and folders, no links.
Locks and memory maps are the kernel's own. Nothing is cached of names and attributes: each look asks the server.

    python -m tests.study.slow_folder SOURCE TARGET SECONDS     until TARGET is unmounted
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import stat
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

DEVICE = "/dev/fuse"
_ROOT = 1  # the kernel's number for the folder itself
_MOST = 2**17  # bytes in a write
_REQUEST = struct.Struct("=IIQQIIII")  # length, opcode, id, node, user, group, process, extensions
_ANSWER = struct.Struct("=IiQ")  # length, error, id
_FORGET, _INTERRUPT, _BATCH_FORGET = 2, 36, 42  # which have no answer
_MODE, _SIZE, _ATIME, _MTIME, _ATIME_NOW, _MTIME_NOW = 1, 8, 16, 32, 128, 256  # what SETATTR changes


class _Server:
    """Does in a folder what the kernel asks for, which knows files by their inodes here."""

    def __init__(self, source: Path) -> None:
        self._nodes = {_ROOT: os.open(source, os.O_PATH)}
        self._known = Counter[int]()  # how often the kernel was told of each node
        self._lock = threading.Lock()
        self._listings: dict[int, list[str]] = {}
        self._numbers = itertools.count(1)
        self._actions = {  # by the kernel's numbers
            1: self._lookup,
            3: self._getattr,
            4: self._setattr,
            9: self._mkdir,
            10: self._unlink,
            11: self._rmdir,
            12: lambda node, body: self._rename(node, body, 8),
            14: self._open,
            15: self._read,
            16: self._write,
            17: self._statfs,
            18: self._release,
            20: self._fsync,
            26: self._init,
            27: self._opendir,
            28: self._readdir,
            29: self._releasedir,
            35: self._create,
            45: lambda node, body: self._rename(node, body, 16),
        }

    def answer(self, opcode: int, node: int, body: bytes) -> bytes:
        """Raises:
        OSError: as the source does, and for what there is no need of.
        """
        if opcode not in self._actions:
            raise OSError(errno.ENOSYS, "")
        return self._actions[opcode](node, body)

    def forget(self, node: int, times: int) -> None:
        with self._lock:
            self._known[node] -= times
            if self._known[node] <= 0 and node != _ROOT:
                os.close(self._nodes.pop(node))

    def _path(self, node: int) -> str:
        return f"/proc/self/fd/{self._nodes[node]}"

    def _entry(self, folder: int, name: bytes) -> bytes:
        with self._lock:
            descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=self._nodes[folder])
            found = os.fstat(descriptor)
            if found.st_ino in self._nodes:
                os.close(descriptor)
            else:
                self._nodes[found.st_ino] = descriptor
            self._known[found.st_ino] += 1
        return struct.pack("=QQQQII", found.st_ino, 0, 0, 0, 0, 0) + _attributes(found)

    def _lookup(self, node: int, body: bytes) -> bytes:
        return self._entry(node, body.rstrip(b"\0"))

    def _getattr(self, node: int, _body: bytes = b"") -> bytes:
        return bytes(16) + _attributes(os.fstat(self._nodes[node]))

    def _setattr(self, node: int, body: bytes) -> bytes:
        changed, _, _, size, _, atime, mtime, _, atime_ns, mtime_ns, _, mode = struct.unpack_from("=IIQQQQQQIIII", body)
        path, now = self._path(node), time.time_ns()
        if changed & _MODE:
            os.chmod(path, stat.S_IMODE(mode))
        if changed & _SIZE:
            os.truncate(path, size)
        if changed & (_ATIME | _MTIME):
            there = os.fstat(self._nodes[node])
            times = [there.st_atime_ns, there.st_mtime_ns]
            if changed & _ATIME:
                times[0] = now if changed & _ATIME_NOW else atime * 10**9 + atime_ns
            if changed & _MTIME:
                times[1] = now if changed & _MTIME_NOW else mtime * 10**9 + mtime_ns
            os.utime(path, ns=(times[0], times[1]))
        return self._getattr(node)

    def _mkdir(self, node: int, body: bytes) -> bytes:
        mode, name = struct.unpack_from("=I", body)[0], body[8:].rstrip(b"\0")
        os.mkdir(name, mode, dir_fd=self._nodes[node])
        return self._entry(node, name)

    def _unlink(self, node: int, body: bytes) -> bytes:
        os.unlink(body.rstrip(b"\0"), dir_fd=self._nodes[node])
        return b""

    def _rmdir(self, node: int, body: bytes) -> bytes:
        os.rmdir(body.rstrip(b"\0"), dir_fd=self._nodes[node])
        return b""

    def _rename(self, node: int, body: bytes, start: int) -> bytes:
        target = struct.unpack_from("=Q", body)[0]
        old, new, _ = body[start:].split(b"\0", 2)
        os.rename(old, new, src_dir_fd=self._nodes[node], dst_dir_fd=self._nodes[target])
        return b""

    def _open(self, node: int, body: bytes) -> bytes:
        flags = struct.unpack_from("=I", body)[0] & (os.O_ACCMODE | os.O_TRUNC)
        return struct.pack("=QII", os.open(self._path(node), flags), 0, 0)

    def _create(self, node: int, body: bytes) -> bytes:
        flags, mode = struct.unpack_from("=II", body)
        name = body[16:].rstrip(b"\0")
        wanted = flags & (os.O_ACCMODE | os.O_TRUNC | os.O_EXCL) | os.O_CREAT
        opened = os.open(name, wanted, stat.S_IMODE(mode), dir_fd=self._nodes[node])
        return self._entry(node, name) + struct.pack("=QII", opened, 0, 0)

    def _read(self, _node: int, body: bytes) -> bytes:
        opened, offset, size = struct.unpack_from("=QQI", body)
        return os.pread(opened, size, offset)

    def _write(self, _node: int, body: bytes) -> bytes:
        opened, offset, size = struct.unpack_from("=QQI", body)
        return struct.pack("=II", os.pwrite(opened, body[40 : 40 + size], offset), 0)

    def _statfs(self, node: int, _body: bytes) -> bytes:
        there = os.statvfs(self._path(node))
        counts = there.f_blocks, there.f_bfree, there.f_bavail, there.f_files, there.f_ffree
        return struct.pack("=5Q4I24x", *counts, there.f_bsize, there.f_namemax, there.f_frsize, 0)

    def _release(self, _node: int, body: bytes) -> bytes:
        os.close(struct.unpack_from("=Q", body)[0])
        return b""

    def _fsync(self, _node: int, body: bytes) -> bytes:
        os.fsync(struct.unpack_from("=Q", body)[0])
        return b""

    def _init(self, _node: int, body: bytes) -> bytes:
        readahead = struct.unpack_from("=III", body)[2]
        big_writes = 32
        return struct.pack("=IIIIHHIIHHII24x", 7, 31, readahead, big_writes, 12, 10, _MOST, 1, 0, 0, 0, 0)

    def _opendir(self, node: int, _body: bytes) -> bytes:
        number = next(self._numbers)
        self._listings[number] = os.listdir(self._path(node))
        return struct.pack("=QII", number, 0, 0)

    def _readdir(self, _node: int, body: bytes) -> bytes:
        number, offset, size = struct.unpack_from("=QQI", body)
        listed = b""
        for index, name in enumerate(self._listings[number][offset:], offset + 1):
            entry = struct.pack("=QQII", 2**32 + index, index, len(os.fsencode(name)), 0) + os.fsencode(name)
            entry += bytes(-len(entry) % 8)
            if len(listed) + len(entry) > size:
                break
            listed += entry
        return listed

    def _releasedir(self, _node: int, body: bytes) -> bytes:
        del self._listings[struct.unpack_from("=Q", body)[0]]
        return b""


def _attributes(there: os.stat_result) -> bytes:
    times = there.st_atime_ns, there.st_mtime_ns, there.st_ctime_ns
    seconds, rest = [value // 10**9 for value in times], [value % 10**9 for value in times]
    numbers = there.st_mode, there.st_nlink, there.st_uid, there.st_gid, 0, there.st_blksize, 0
    return struct.pack("=6Q10I", there.st_ino, there.st_size, there.st_blocks, *seconds, *rest, *numbers)


def _serve(source: Path, target: Path, seconds: float) -> None:
    device = os.open(DEVICE, os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"slow", os.fsencode(target), b"fuse.slow", 0, options):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    server = _Server(source)

    def answer(number: int, opcode: int, node: int, body: bytes) -> None:
        time.sleep(seconds)
        error, content = 0, b""
        try:
            content = server.answer(opcode, node, body)
        except OSError as problem:
            error = problem.errno or errno.EIO
        with suppress(OSError):  # whoever asked was killed
            os.write(device, _ANSWER.pack(_ANSWER.size + len(content), -error, number) + content)

    with ThreadPoolExecutor(64) as threads, suppress(OSError):  # until it is unmounted
        while True:
            request = os.read(device, _MOST + 4096)
            _, opcode, number, node, *_ = _REQUEST.unpack_from(request)
            body = request[_REQUEST.size :]
            if opcode == _FORGET:
                server.forget(node, *struct.unpack_from("=Q", body))
            elif opcode == _BATCH_FORGET:
                for forgotten, times in struct.iter_unpack("=QQ", body[8:]):
                    server.forget(forgotten, times)
            elif opcode != _INTERRUPT:
                threads.submit(answer, number, opcode, node, body)


@contextmanager
def slow_folder(source: Path, target: Path, seconds: float) -> Iterator[None]:
    """Have ``target`` show what is in ``source``, slowly, until the block ends."""
    command = [sys.executable, "-m", "tests.study.slow_folder", str(source), str(target), str(seconds)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2]) as process:
        try:
            while not os.path.ismount(target):
                assert process.poll() is None
                time.sleep(0.05)
            yield
        finally:
            subprocess.run(["umount", "--lazy", str(target)], check=False)
            process.kill()  # it would serve for as long as somebody has a file open, such as a connection to study.db


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))
