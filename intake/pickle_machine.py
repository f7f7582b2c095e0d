"""Interprets the pickle of a `.pt` state dict without Python's pickle; it can describe tensors and do nothing else.

The machine knows the opcodes that `torch.save` writes for dicts of tensors, and six callables. No name in the
file is ever imported or called; whatever it does not know is refused by name. Dict keys are texts and small ints
only (hashing nested tuples can take forever), and every length is bounded by the pickle's own bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from intake.limits import Limits
from intake.problems import IntakeRefused, refusal, shown

EXPORT_ADVICE: Final = (
    "Upload the weights alone: `from safetensors.torch import save_model; save_model(model, 'model.safetensors')`, "
    "or `torch.save(model.state_dict(), 'model.pt')`."
)

STORAGE_DTYPES: Final[dict[str, str]] = {
    "FloatStorage": "F32", "DoubleStorage": "F64", "HalfStorage": "F16", "BFloat16Storage": "BF16",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8", "ByteStorage": "U8",
    "BoolStorage": "BOOL",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Storage:
    """A storage named in the pickle: its record in the zip, number type and number of values."""

    key: str
    dtype: str
    count: int


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor over a storage, as the pickle describes it; nothing in it is checked yet but the types."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Global:
    name: str


_MARK: Final = object()
_GLOBALS: Final = {
    "collections.OrderedDict",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
    *(f"torch.{name}" for name in STORAGE_DTYPES),
}


def _broken(detail: str) -> IntakeRefused:
    return refusal("model-file-broken", f"The pickle in the file is broken: {detail}.")


def not_accepted(what: str) -> IntakeRefused:
    """The refusal of something other than tensors, by its name."""
    return refusal(
        "model-pickle-not-accepted",
        f"The file asks for {shown(what)}, which is not a tensor or a plain value, so it is not read. {EXPORT_ADVICE}",
        refused=shown(what),
    )


def interpret(data: bytes, limits: Limits) -> Any:
    """The object that the pickle describes: dicts, lists, tuples, str, int, float, bool, None, `TensorSpec`.

    Raises `model-pickle-not-accepted` for anything else and `model-file-broken` for what is no pickle.
    """
    return _Machine(data, limits).run()


class _Machine:
    """The stack, the memo and the position of one pickle."""

    def __init__(self, data: bytes, limits: Limits) -> None:
        self.data = data
        self.limits = limits
        self.position = 0
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.handed_over = 0

    def run(self) -> Any:
        handlers = _HANDLERS
        for _ in range(self.limits.max_pickle_steps):
            code = self.take(1)[0]
            if code == _STOP:
                return self.pop()
            handler = handlers.get(code)
            if handler is None:
                raise not_accepted(f"the pickle instruction {_OPCODE_NAMES.get(code, f'0x{code:02x}')}")
            handler(self)
        raise self.too_long()

    def too_long(self) -> IntakeRefused:
        return refusal(
            "model-file-broken",
            f"The pickle in the file takes more than {self.limits.max_pickle_steps:,} steps. {EXPORT_ADVICE}",
        )

    # reading

    def take(self, count: int) -> bytes:
        end = self.position + count
        piece = self.data[self.position : end]
        if len(piece) != count:
            raise _broken("it ends too early")
        self.position = end
        return piece

    def number(self, layout: struct.Struct) -> Any:
        return layout.unpack(self.take(layout.size))[0]

    def text(self, length: int) -> str:
        try:
            return self.take(length).decode("utf-8")
        except UnicodeDecodeError:
            raise _broken("a text is not UTF-8") from None

    def line(self) -> str:
        end = self.data.find(b"\n", self.position, self.position + 512)
        if end < 0:
            raise _broken("a name does not end")
        name = self.text(end - self.position)
        self.position += 1
        return name

    # the stack

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise _broken("a value is missing")
        return self.stack.pop()

    def top(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise _broken("a value is missing")
        return self.stack[-1]

    def pop_to_mark(self) -> list[Any]:
        stack = self.stack
        for index in range(len(stack) - 1, -1, -1):
            if stack[index] is _MARK:
                items = stack[index + 1 :]
                del stack[index:]
                return items
        raise _broken("a mark is missing")

    def last(self, count: int) -> tuple[Any, ...]:
        items = [self.pop() for _ in range(count)]
        return tuple(reversed(items))

    # instructions

    def protocol(self) -> None:
        if self.take(1)[0] > 5:
            raise _broken("its protocol is unknown")

    def frame(self) -> None:
        self.take(8)  # only a hint to unpicklers that read streams

    def short_int(self) -> None:
        size = self.take(1)[0]
        if size > 8:
            raise not_accepted("an integer of more than 64 bits")
        self.push(int.from_bytes(self.take(size), "little", signed=True))

    def put(self, index: int) -> None:
        self.memo[index] = self.top()

    def get(self, index: int) -> None:
        try:
            self.push(self.memo[index])
        except KeyError:
            raise _broken("it refers to a value that it does not have") from None

    def append(self) -> None:
        value = self.pop()
        self.extend([value])

    def extend(self, items: list[Any]) -> None:
        target = self.top()
        if type(target) is not list:
            raise _broken("it appends to something that is not a list")
        target.extend(items)

    def set_items(self, items: list[Any]) -> None:
        target = self.top()
        if type(target) is not dict or len(items) % 2:
            raise _broken("it fills something that is not a dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) is not str and type(key) is not int:
                raise not_accepted(f"a dict key of type {_kind(key)}")
            target[key] = value

    def find(self, module: Any, name: Any) -> None:
        full = f"{module}.{name}" if type(module) is str and type(name) is str else "a name that is not a text"
        if full not in _GLOBALS:
            raise not_accepted(full)
        self.push(_Global(full))

    def persistent(self) -> None:
        match self.pop():
            case ("storage", _Global(name), str(key), str(), int(count)) if (
                name.removeprefix("torch.") in STORAGE_DTYPES
            ):
                self.push(Storage(key, STORAGE_DTYPES[name.removeprefix("torch.")], count))
            case _:
                raise not_accepted("a persistent object other than a storage")

    def reduce(self) -> None:
        arguments, function = self.pop(), self.pop()
        if type(function) is not _Global or type(arguments) is not tuple:
            raise not_accepted(f"a call of {_kind(function)}")
        # A call goes through its lists, and the memo hands the same long one to every call.
        self.handed_over += sum(len(value) for value in arguments if isinstance(value, list | tuple))
        if self.handed_over > self.limits.max_pickle_steps:
            raise self.too_long()
        self.push(_call(function.name, arguments))

    def build(self) -> None:
        """A state dict carries its modules' versions as the attribute `_metadata`: dropped, as it says nothing here."""
        state, target = self.pop(), self.top()
        if type(target) is not dict or type(state) is not dict or state.keys() != {"_metadata"}:
            raise not_accepted(f"setting attributes of {_kind(target)}")


def _call(name: str, arguments: tuple[Any, ...]) -> Any:
    match name, arguments:
        case "collections.OrderedDict", ():
            return {}
        case "collections.OrderedDict", ([*pairs],):
            return _ordered(pairs)
        case "torch._utils._rebuild_parameter", (TensorSpec() as tensor, bool(), dict()):
            return tensor
        case "torch._utils._rebuild_tensor_v2", (
            Storage() as storage,
            int(offset),
            tuple(shape),
            tuple(stride),
            bool(),
            dict(),
            *rest,
        ):
            if rest not in ([], [None], [{}]):
                raise not_accepted("a tensor with metadata of its own (such as a conjugate or a subclass)")
            if not all(type(n) is int for n in (*shape, *stride)):
                raise _broken("a tensor's shape or stride is not made of integers")
            return TensorSpec(storage, offset, shape, stride)
    raise not_accepted(f"{name} with unusual arguments")


def _ordered(pairs: list[Any]) -> dict[Any, Any]:
    result: dict[Any, Any] = {}
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or type(pair[0]) not in (str, int):
            raise not_accepted("collections.OrderedDict with unusual arguments")
        result[pair[0]] = pair[1]
    return result


def _kind(value: Any) -> str:
    if isinstance(value, _Global):
        return value.name
    return "a mark" if value is _MARK else type(value).__name__


_U1, _U2, _U4, _U8, _I4 = (struct.Struct(layout) for layout in ("<B", "<H", "<I", "<Q", "<i"))
_F8 = struct.Struct(">d")
_STOP: Final = ord(".")

_HANDLERS: Final[Mapping[int, Callable[[_Machine], None]]] = {
    0x80: _Machine.protocol,
    0x95: _Machine.frame,
    ord("("): lambda m: m.push(_MARK),
    ord("N"): lambda m: m.push(None),
    0x88: lambda m: m.push(True),
    0x89: lambda m: m.push(False),
    ord("J"): lambda m: m.push(m.number(_I4)),
    ord("K"): lambda m: m.push(m.number(_U1)),
    ord("M"): lambda m: m.push(m.number(_U2)),
    0x8A: _Machine.short_int,
    ord("G"): lambda m: m.push(m.number(_F8)),
    ord("X"): lambda m: m.push(m.text(m.number(_U4))),
    0x8C: lambda m: m.push(m.text(m.number(_U1))),
    0x8D: lambda m: m.push(m.text(m.number(_U8))),
    ord("]"): lambda m: m.push([]),
    ord("}"): lambda m: m.push({}),
    ord(")"): lambda m: m.push(()),
    ord("l"): lambda m: m.push(m.pop_to_mark()),
    ord("t"): lambda m: m.push(tuple(m.pop_to_mark())),
    0x85: lambda m: m.push(m.last(1)),
    0x86: lambda m: m.push(m.last(2)),
    0x87: lambda m: m.push(m.last(3)),
    ord("a"): _Machine.append,
    ord("e"): lambda m: m.extend(m.pop_to_mark()),
    ord("s"): lambda m: m.set_items(list(m.last(2))),
    ord("u"): lambda m: m.set_items(m.pop_to_mark()),
    ord("q"): lambda m: m.put(m.number(_U1)),
    ord("r"): lambda m: m.put(m.number(_U4)),
    0x94: lambda m: m.put(len(m.memo)),
    ord("h"): lambda m: m.get(m.number(_U1)),
    ord("j"): lambda m: m.get(m.number(_U4)),
    ord("c"): lambda m: m.find(m.line(), m.line()),
    0x93: lambda m: m.find(*m.last(2)),
    ord("Q"): _Machine.persistent,
    ord("R"): _Machine.reduce,
    ord("b"): _Machine.build,
}

_OPCODE_NAMES: Final[Mapping[int, str]] = {
    ord("o"): "OBJ", ord("i"): "INST", 0x81: "NEWOBJ", 0x92: "NEWOBJ_EX", 0x82: "EXT1", 0x83: "EXT2", 0x84: "EXT4",
    ord("P"): "PERSID", ord("I"): "INT", ord("L"): "LONG", ord("F"): "FLOAT", ord("S"): "STRING", ord("V"): "UNICODE",
    ord("T"): "BINSTRING", ord("U"): "SHORT_BINSTRING", ord("B"): "BINBYTES", ord("C"): "SHORT_BINBYTES",
    0x8E: "BINBYTES8", 0x96: "BYTEARRAY8", 0x8B: "LONG4", ord("0"): "POP", ord("1"): "POP_MARK", ord("2"): "DUP",
    0x8F: "EMPTY_SET", 0x90: "ADDITEMS", 0x91: "FROZENSET", ord("p"): "PUT", ord("g"): "GET", ord("d"): "DICT",
}  # fmt: skip
