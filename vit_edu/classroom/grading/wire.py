"""Plain values between the grader and a process that has run a learner's code: never pickle, nothing is executed.

A message is a JSON header and the bytes of its tensors. What comes back may be anything, so it is read with limits and
every size is checked before a tensor is made of it.
"""

import json
import math
import socket
import struct
import time

import torch
from torch import Tensor

DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in (
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.complex128, torch.bool,
    torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
)}  # fmt: skip
LARGEST = 8_000_000  # bytes of a message's tensors; a right answer has thousands
HEADER = 1_000_000  # bytes of the rest: read as JSON they may take twenty times as much
STATUS = 4  # bytes: how a learner's process ended
HEAD = struct.Struct("<II")  # bytes of the header, bytes of the tensors


class BrokenMessage(Exception):
    """What came is no message."""


class Closed(BrokenMessage):
    """The other side is gone."""


class TooLarge(Exception):
    """A value that does not fit into a message; the message is a sentence for the learner."""


def encode(value) -> bytes:
    """Any nesting of tuples, lists, dicts, tensors and plain values; of anything else only the name of its type.

    Raises TooLarge.
    """
    buffers: list[bytes] = []
    header = json.dumps(_to_json(value, buffers)).encode()
    body = b"".join(buffers)
    if len(header) > HEADER:
        raise TooLarge(f"A result of {len(header) / 1e6:.0f} MB is too large to be right.")
    return HEAD.pack(len(header), len(body)) + header + body


def _to_json(value, buffers: list[bytes]):
    if isinstance(value, Tensor):
        shape = list(value.shape)
        if value.is_meta:
            return {"meta": [str(value.dtype).removeprefix("torch."), shape]}
        size = math.prod(shape) * value.element_size()
        if sum(map(len, buffers)) + size > LARGEST:
            raise TooLarge(f"A result of {size / 1e6:.0f} MB is too large to be right.")
        data = value.detach().resolve_conj().resolve_neg().cpu().contiguous().reshape(-1).view(torch.uint8)
        buffers.append(bytes(data.numpy()))
        return {"tensor": [str(value.dtype).removeprefix("torch."), shape]}
    if isinstance(value, (tuple, list)):
        return {
            type(value).__name__ if type(value) in (tuple, list) else "tuple": [_to_json(x, buffers) for x in value]
        }
    if isinstance(value, dict):
        return {"dict": [[_to_json(key, buffers), _to_json(x, buffers)] for key, x in value.items()]}
    if type(value) is str and len(value) > HEADER:
        raise TooLarge(f"A text of {len(value)} characters is too large to be right.")
    if value is None or type(value) in (bool, int, float, str):
        return {"plain": value}
    return {"type": (value if isinstance(value, type) else type(value)).__name__}


def decode(message: bytes):
    """The value again. Raises BrokenMessage for anything that `encode` does not write."""
    try:
        header, body = HEAD.unpack_from(message)
        if len(message) != HEAD.size + header + body:
            raise BrokenMessage("sizes do not agree")
        tree = json.loads(message[HEAD.size : HEAD.size + header])
        rest = [memoryview(message)[HEAD.size + header :]]
        value = _from_json(tree, rest)
    except BrokenMessage:
        raise
    except Exception as error:  # RecursionError, KeyError, ValueError of a number with a million digits …
        raise BrokenMessage(type(error).__name__) from None
    if len(rest[0]):
        raise BrokenMessage("bytes that belong to no tensor")
    return value


def _from_json(tree, rest: list[memoryview]):
    [(kind, content)] = tree.items()
    if kind in ("tensor", "meta"):
        name, shape = content
        if not all(type(n) is int and 0 <= n < 2**31 for n in shape) or len(shape) > 16:
            raise BrokenMessage("no shape")
        if kind == "meta":
            return torch.empty(shape, dtype=DTYPES[name], device="meta")
        size = math.prod(shape) * DTYPES[name].itemsize
        if size > len(rest[0]):
            raise BrokenMessage("a tensor without its numbers")
        data, rest[0] = bytearray(rest[0][:size]), rest[0][size:]
        if DTYPES[name] is torch.bool and max(data, default=0) > 1:
            raise BrokenMessage("neither true nor false")
        if not size:
            return torch.empty(shape, dtype=DTYPES[name])
        return torch.frombuffer(data, dtype=torch.uint8).view(DTYPES[name]).reshape(shape)
    if kind in ("tuple", "list"):
        return {"tuple": tuple, "list": list}[kind](_from_json(x, rest) for x in content)
    if kind == "dict":
        return {_from_json(key, rest): _from_json(x, rest) for key, x in content}
    if kind == "plain" and isinstance(content, str):
        return content.encode("utf-8", "replace").decode()  # half a character cannot be written into a report
    if kind == "plain" and (content is None or type(content) in (bool, int, float)):
        return content
    if kind == "type":
        return type(str(content)[:80], (), {})
    raise BrokenMessage("an unknown kind")


def send(channel: socket.socket, message: bytes) -> None:
    """Writes one encoded message. Raises Closed when nobody reads."""
    try:
        channel.sendall(message)
    except OSError as error:
        raise Closed(str(error)) from None


def receive(channel: socket.socket, seconds: float = math.inf):
    """Reads one message. Raises Closed at its end, TimeoutError, and BrokenMessage for what is none or too large."""
    deadline = time.monotonic() + seconds
    header, body = HEAD.unpack(_exactly(channel, HEAD.size, deadline))
    if header > HEADER or body > LARGEST:
        raise BrokenMessage(f"{header} + {body} bytes, more than {HEADER} + {LARGEST}")
    return decode(HEAD.pack(header, body) + _exactly(channel, header + body, deadline))


def _exactly(channel: socket.socket, count: int, deadline: float) -> bytes:
    """So many bytes. It waits in short turns, since no exception reaches a thread that waits in C."""
    found = bytearray()
    while len(found) < count:
        if time.monotonic() > deadline:  # also of one who sends a byte now and then
            raise TimeoutError
        channel.settimeout(0.05)
        try:
            part = channel.recv(min(count - len(found), 1 << 20))
        except TimeoutError:
            continue
        except OSError as error:
            raise Closed(str(error)) from None
        if not part:
            raise Closed("the other side is gone")
        found += part
    return bytes(found)
