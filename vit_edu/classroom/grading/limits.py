"""What the kernel holds a learner's process to: limits, and a filter of system calls. There is no way back from either.

The filter (seccomp) needs no rights and holds for root too, whom most limits do not hold.
"""

import ctypes
import errno
import os
import platform
import resource
import signal
import struct

SECONDS = 10  # of computing, for one exercise
MEMORY = 1_000_000_000  # bytes, on top of what is there already

# Numbers on x86_64 and on aarch64; 0 where a machine lacks the call.
REFUSED = {
    # a process, a thread, a program
    "fork": (57, 0), "vfork": (58, 0), "clone": (56, 220), "clone3": (435, 435), "execve": (59, 221),
    "execveat": (322, 281), "unshare": (272, 97), "setns": (308, 268),
    # reach for another process
    "kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131), "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240), "pidfd_open": (434, 434), "pidfd_send_signal": (424, 424), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "setpriority": (141, 140),
    "sched_setparam": (142, 118), "sched_setscheduler": (144, 119), "sched_setattr": (314, 274),
    "sched_setaffinity": (203, 122), "ioprio_set": (251, 30), "bpf": (321, 280), "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    # the network, and io_uring, which goes past this filter
    "socket": (41, 198), "io_uring_setup": (425, 425),
    # memory that is left behind, or counts for nobody
    "shmget": (29, 194), "semget": (64, 190), "msgget": (68, 186), "mq_open": (240, 180), "memfd_create": (319, 279),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    # change files
    "openat2": (437, 437), "creat": (85, 0), "truncate": (76, 45), "ftruncate": (77, 46), "fallocate": (285, 47),
    "rename": (82, 0), "renameat": (264, 38), "renameat2": (316, 276), "unlink": (87, 0), "unlinkat": (263, 35),
    "rmdir": (84, 0), "mkdir": (83, 0), "mkdirat": (258, 34), "link": (86, 0), "linkat": (265, 37),
    "symlink": (88, 0), "symlinkat": (266, 36), "mknod": (133, 0), "mknodat": (259, 33), "chmod": (90, 0),
    "fchmod": (91, 52), "fchmodat": (268, 53), "chown": (92, 0), "lchown": (94, 0), "fchown": (93, 55),
    "fchownat": (260, 54), "utime": (132, 0), "utimes": (235, 0), "futimesat": (261, 0), "utimensat": (280, 88),
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7),
}  # fmt: skip
OPEN, OPENAT, PRLIMIT = (2, 0), (257, 56), (302, 261)
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # place in the pairs, the kernel's own name
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

LOAD, EQUAL, AT_LEAST, HAS_BITS, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # instructions of the filter
NUMBER, MACHINE, FIRST, SECOND, THIRD = 0, 4, 16, 24, 32  # where a call's number, machine and arguments lie
ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x80000000


def take(seconds: int) -> None:
    """The limits of one exercise, for this process and for good. Raises OSError where the kernel has no filter."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)  # nothing is read from or written to a terminal
    with open("/proc/self/statm") as file:
        here = int(file.read().split()[0]) * resource.getpagesize()
    for name, soft, hard in (
        (resource.RLIMIT_AS, here + MEMORY, here + MEMORY),
        (resource.RLIMIT_CPU, seconds, seconds + 1),  # a signal; and for those that ignore it the end
        (resource.RLIMIT_FSIZE, 0, 0),
        (resource.RLIMIT_NOFILE, 64, 64),
        (resource.RLIMIT_CORE, 0, 0),
    ):
        resource.setrlimit(name, (soft, hard))
    _prctl(38, 1, 0, 0, 0)  # no new privileges
    program = b"".join(struct.pack("<HBBI", *line) for line in _filter())
    buffer = ctypes.create_string_buffer(program, len(program))
    _prctl(22, 2, struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer)), 0, 0)


def unseen() -> None:
    """No other process may look into this one or write into its memory by way of /proc."""
    _prctl(4, 0, 0, 0, 0)


def end_with_parent() -> None:
    """This process is killed as soon as the one that started it is gone."""
    _prctl(1, signal.SIGKILL, 0, 0, 0)


def _prctl(*words) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(*words):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _filter() -> list[tuple[int, int, int, int]]:
    """The program that the kernel runs before every system call: (instruction, jump if so, jump if not, value)."""
    if platform.machine() not in MACHINES:
        raise OSError(errno.ENOSYS, f"no filter of system calls for {platform.machine()}")
    place, machine = MACHINES[platform.machine()]
    program = [(LOAD, 0, 0, MACHINE), (EQUAL, 1, 0, machine), (RETURN, 0, 0, KILL), (LOAD, 0, 0, NUMBER)]
    program += [(AT_LEAST, 0, 1, 0x40000000), (RETURN, 0, 0, REFUSE)]  # x32's numbers
    for number in filter(None, (numbers[place] for numbers in REFUSED.values())):
        program += [(EQUAL, 0, 1, number), (RETURN, 0, 0, REFUSE)]
    for number, argument, unless in (
        (OPEN[place], SECOND, (HAS_BITS, 0, 1, WRITING)),
        (OPENAT[place], THIRD, (HAS_BITS, 0, 1, WRITING)),
        (PRLIMIT[place], FIRST, (EQUAL, 1, 0, 0)),  # its own limits it may read
    ):
        if number:
            program += [(EQUAL, 0, 4, number), (LOAD, 0, 0, argument), unless]
            program += [(RETURN, 0, 0, REFUSE), (RETURN, 0, 0, ALLOW)]
    return [*program, (RETURN, 0, 0, ALLOW)]
