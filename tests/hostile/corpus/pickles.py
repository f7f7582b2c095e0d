"""Crafted `.pt` files whose pickle is the weapon: calls, attributes, memo, depth, numbers, layouts."""

from __future__ import annotations

import struct
from functools import partial

import numpy as np

from ...intake.builders import a_dict, call, integer, integers, name, storage, tensor, text, torch_zip, zip_of
from .case import Bait, Crafted

CODE = "model-pickle-not-accepted"
BROKEN = "model-file-broken"
RANGE = "model-tensor-out-of-range"
LAYOUT = "model-tensor-not-contiguous"

CALLABLES = (
    "posix.system", "nt.system", "os.popen", "os.execv", "subprocess.Popen", "subprocess.check_output", "pty.spawn",
    "builtins.exec", "builtins.compile", "builtins.getattr", "builtins.__import__", "builtins.open", "builtins.map",
    "__builtin__.eval", "runpy._run_code", "importlib.import_module", "timeit.timeit", "cProfile.run", "pdb.run",
    "code.interact", "webbrowser.open", "ctypes.CDLL", "operator.attrgetter", "operator.methodcaller",
    "functools.partial", "types.FunctionType", "types.CodeType", "copyreg._reconstructor", "_codecs.encode",
    "pickle.loads", "marshal.loads", "shutil.rmtree", "pathlib.Path", "numpy.core.multiarray._reconstruct",
    "numpy.f2py.crackfortran.getlincoef", "torch.load", "torch.hub.load", "torch.jit.load",
    "torch.storage._load_from_bytes", "torch._utils._rebuild_qtensor", "torch._utils._rebuild_device_tensor_from_numpy",
    "torch._tensor._rebuild_from_type_v2", "torch.utils.collect_env.run", "torch.serialization.load",
    "torch._dynamo.guards.GuardBuilder.get", "torch.distributed.rpc.server_process_global_profiler._server",
)  # fmt: skip
"""What scanners missed or name: each must be refused by its name, whatever its arguments."""


def pickles(bait: Bait) -> Crafted:
    """Every crafted pickle; those that can take the bait would on a reader that runs them."""
    return {**_callables(bait), **_instructions(bait), **_costs(), **_values(), **_layouts(), **_contents()}


def baited(bait: Bait) -> dict[str, bytes]:
    """Pickles (the whole stream) that take the bait in `pickle.loads`: the proof that it works."""
    return {
        "a shell": b"\x80\x02" + call("os", "system", text(bait.command)) + b".",
        "an expression": b"\x80\x02" + call("builtins", "eval", text(bait.code)) + b".",
    }


def _callables(bait: Bait) -> Crafted:
    found: dict[str, tuple[bytes, str]] = {}
    for full in CALLABLES:
        module, _, attribute = full.rpartition(".")
        found[f"calls {full}"] = (torch_zip(a_dict(w=tensor(), x=call(module, attribute, text(bait.command)))), CODE)
    for case, stream in baited(bait).items():
        found[f"runs {case}"] = (zip_of({"archive/data.pkl": stream, "archive/data/0": bytes(16)}), CODE)
    state = a_dict(w=tensor())
    return found | {
        "eval in the place of the storage": (
            torch_zip(a_dict(w=tensor(of=call("builtins", "eval", text(bait.code))))),
            CODE,
        ),
        "eval in the place of a key": (
            torch_zip(b"}(" + call("builtins", "eval", text(bait.code)) + tensor() + b"u"),
            CODE,
        ),
        "eval in the hooks of a tensor": (
            torch_zip(
                a_dict(
                    w=call(
                        "torch._utils",
                        "_rebuild_tensor_v2",
                        storage(),
                        integer(0),
                        integers(4),
                        integers(1),
                        b"\x89",
                        call("builtins", "eval", text(bait.code)),
                    )
                )
            ),
            CODE,
        ),
        "eval after the state dict, popped": (
            torch_zip(state + call("builtins", "eval", text(bait.code)) + b"0"),
            CODE,
        ),
        "eval before a second STOP": (
            torch_zip(call("builtins", "eval", text(bait.code)) + b"." + state),
            CODE,
        ),
        "STACK_GLOBAL of posix.system": (
            torch_zip(text("posix") + text("system") + b"\x93" + text(bait.command) + b"\x85R"),
            CODE,
        ),
        "STACK_GLOBAL of names in the memo": (
            torch_zip(text("system") + b"q\x00" + text("posix") + b"q\x01h\x00\x93" + text(bait.command) + b"\x85R"),
            CODE,
        ),
        "STACK_GLOBAL of a number": (torch_zip(integer(1) + text("x") + b"\x93"), CODE),
        "STACK_GLOBAL with a mark": (torch_zip(b"(" + text("x") + b"\x93"), BROKEN),
        "a dotted attribute": (torch_zip(call("collections", "OrderedDict.__class__", text("x"))), CODE),
        "a module with a space": (torch_zip(call("collections ", "OrderedDict")), CODE),
        "a module in other letters": (torch_zip(call("ｃollections", "OrderedDict")), CODE),
        "OrderedDict by another path": (torch_zip(call("typing.collections", "OrderedDict")), CODE),
        "OrderedDict of a text": (torch_zip(call("collections", "OrderedDict", text("ab"))), CODE),
        "OrderedDict of a dict": (torch_zip(call("collections", "OrderedDict", b"}")), CODE),
        "a parameter of a call": (
            torch_zip(a_dict(w=call("torch._utils", "_rebuild_parameter", text("x"), b"\x88", b"}"))),
            CODE,
        ),
        "a parameter with state": (
            torch_zip(
                a_dict(w=call("torch._utils", "_rebuild_parameter_with_state", tensor(), b"\x88", b"}", a_dict(x=b"N")))
            ),
            CODE,
        ),
        "a call of a text": (torch_zip(text("os.system") + text("x") + b"\x85R"), CODE),
        "a call of a tensor": (torch_zip(tensor() + b")R"), CODE),
        "a call with a list": (torch_zip(name("collections", "OrderedDict") + b"]R"), CODE),
        "a call without arguments": (torch_zip(name("collections", "OrderedDict") + b"R"), BROKEN),
        "the class instead of a state dict": (torch_zip(name("collections", "OrderedDict")), CODE),
    }


def _instructions(bait: Bait) -> Crafted:
    command = bait.command.encode()
    streams = {
        "INST": b"(" + text(bait.command) + b"iposix\nsystem\n",
        "OBJ": b"(" + name("posix", "system") + text(bait.command) + b"o",
        "NEWOBJ of a class": name("subprocess", "Popen") + text(bait.command) + b"\x85\x81",
        "NEWOBJ_EX": name("collections", "OrderedDict") + b")}\x92",
        "EXT1": b"\x82\x01",
        "EXT2": b"\x83\x01\x00",
        "EXT4": b"\x84\x01\x00\x00\x00",
        "PERSID": b"Pstorage\n",
        "PERSID with code": b"P" + command + b"\n",
        "BINPERSID of a text": text("storage") + b"Q",
        "BINPERSID of a module": b"(" + text("module") + text("x") + text("y") + b"tQ",
        "BINPERSID of a strange storage": b"("
        + text("storage")
        + name("collections", "OrderedDict")
        + text("0")
        + text("cpu")
        + integer(4)
        + b"tQ",
        "BUILD on a tensor": tensor() + a_dict(data=b"N") + b"b",
        "BUILD with slots": call("collections", "OrderedDict") + b"N" + a_dict(__class__=b"N") + b"\x86b",
        "BUILD of __setstate__": call("collections", "OrderedDict") + a_dict(__setstate__=b"N") + b"b",
        "BUILD of _metadata and more": call("collections", "OrderedDict") + a_dict(_metadata=b"}", x=b"N") + b"b",
        "FROZENSET": b"(" + integer(1) + b"\x91",
        "EMPTY_SET": b"\x8f",
        "BYTEARRAY8": b"\x96" + struct.pack("<Q", 1 << 60),
        "NEXT_BUFFER": b"\x97",
        "READONLY_BUFFER": tensor() + b"\x98",
        "LONG4": b"\x8b" + struct.pack("<i", 1 << 30),
        "LONG4 below zero": b"\x8b" + struct.pack("<i", -1),
        "LONG in digits": b"L" + b"9" * 100_000 + b"L\n",
        "INT in digits": b"I" + b"9" * 100_000 + b"\n",
        "FLOAT in digits": b"F1e999999\n",
        "STRING with an escape": b"S'\\x41'\n",
        "UNICODE": b"V\\u0041\n",
        "BINSTRING": b"T" + struct.pack("<i", -1),
        "GET in digits": b"g" + b"9" * 100_000 + b"\n",
        "PUT in digits": b"Np" + b"9" * 100_000 + b"\n",
        "DUP": b"}2s",
        "POP_MARK": b"(1",
        "an unknown instruction": b"\xff",
    }
    return {f"instruction {case}": (torch_zip(stream), CODE) for case, stream in streams.items()}


def _costs() -> Crafted:
    """Small files that would take long, or much memory."""
    pairs = b"(" + text("k") + b"N\x86q\x00" + b"h\x00" * 300_000 + b"lq\x01"
    distinct = b"(" + b"".join(integer(i) + b"N\x86" for i in range(100_000)) + b"lq\x01"
    called = name("collections", "OrderedDict") + b"q\x02h\x01\x85q\x03"
    wide = b"(" + integer(1) + b"q\x00" + b"h\x00" * 500_000 + b"tq\x01"
    rebuild = name("torch._utils", "_rebuild_tensor_v2") + b"q\x02" + storage() + b"q\x03"
    a_call = b"h\x02(h\x03" + integer(0) + b"h\x01h\x01\x89}tq\x04R"
    return {
        "OrderedDict of the same long list again and again": (
            lambda: torch_zip(b"]" + pairs + called + b"h\x02h\x03R" * 200_000),
            BROKEN,
        ),
        "OrderedDict of a list of 100,000 keys again and again": (
            lambda: torch_zip(b"]" + distinct + called + b"h\x02h\x03R" * 200_000),
            BROKEN,
        ),
        "a tensor of the same 500,000 sizes again and again": (
            lambda: torch_zip(b"]" + wide + rebuild + a_call + b"h\x02h\x04R" * 200_000),
            BROKEN,
        ),
        "four million empty dicts": (lambda: torch_zip(b"}" * 4_000_001), BROKEN),
        "four million lists in the memo": (lambda: torch_zip(b"]\x94" * 2_000_001), BROKEN),
        "a pickle of 9 MiB": (lambda: torch_zip(b"N" * (9 << 20)), BROKEN),
        "lists four million deep": (lambda: torch_zip(b"]" * 1_900_000 + b"a" * 1_899_999), CODE),
        "tuples three million deep": (lambda: torch_zip(b")" + b"\x85" * 3_000_000), CODE),
        "dicts a million deep": (
            lambda: torch_zip(b"}" + (text("k") + b"q\x00}") + b"h\x00}" * 1_000_000 + b"s" * 1_000_001),
            "model-no-tensors",
        ),
        "marks without end": (lambda: torch_zip(b"(" * 4_000_001), BROKEN),
        "a list that holds itself": (torch_zip(b"]q\x00h\x00a"), CODE),
        "a dict that holds itself": (torch_zip(b"}q\x00" + text("model") + b"h\x00s"), "model-no-tensors"),
        "a memo index of four billion": (torch_zip(b"Nr\xff\xff\xff\xffj\xff\xff\xff\xff"), CODE),
        "a memo index that is not there": (torch_zip(b"Nr\xff\xff\xff\xffj\xfe\xff\xff\xff"), BROKEN),
        "20,001 tensors of one storage": (
            lambda: torch_zip(
                b"}("
                + text("t")
                + tensor()
                + b"q\x00"
                + b"".join(text(f"t{i}") + b"h\x00" for i in range(20_000))
                + b"u"
            ),
            "model-too-many-tensors",
        ),
        "1.2 GiB of tied tensors from 64 KiB": (partial(_tied, 20_000), "model-too-large"),
        "900 MiB of tied tensors from 1 MiB": (partial(_tied, 900, 1 << 18), "model-too-large"),
    }


def _tied(names: int, count: int = 1 << 14) -> bytes:
    one = tensor(of=storage(count=count), shape=(count,)) + b"q\x00"
    rest = b"".join(text(f"t{i}") + b"h\x00" for i in range(1, names))
    return torch_zip(b"}(" + text("t") + one + rest + b"u", {"0": bytes(4 * count)})


def _values() -> Crafted:
    """Streams that lie about their own lengths, or end wrong."""
    return {
        "a frame that lies": (zip_of({"a/data.pkl": b"\x80\x04\x95" + b"\xff" * 8 + b"}."}), "model-no-tensors"),
        "a frame that is cut off": (zip_of({"a/data.pkl": b"\x80\x04\x95\x01"}), BROKEN),
        "a text of 4 GiB": (torch_zip(b"X\xff\xff\xff\xff"), BROKEN),
        "a text of 16 EiB": (torch_zip(b"\x8d" + b"\xff" * 8), BROKEN),
        "a text with half a surrogate": (torch_zip(b"X\x03\x00\x00\x00\xed\xa0\x80"), BROKEN),
        "a text in overlong UTF-8": (torch_zip(b"X\x02\x00\x00\x00\xc0\xaf"), BROKEN),
        "a name without an end": (torch_zip(b"c" + b"a" * 100_000), BROKEN),
        "an integer of nine bytes": (torch_zip(b"\x8a\x09" + bytes(9)), CODE),
        "a float cut off": (zip_of({"a/data.pkl": b"\x80\x02G\x00"}), BROKEN),
        "TUPLE3 of two": (torch_zip(b"NN\x87"), BROKEN),
        "APPEND to a dict": (torch_zip(b"}Na"), BROKEN),
        "SETITEM on a list": (torch_zip(b"]NNs"), BROKEN),
        "SETITEMS of three": (torch_zip(b"}(NNNu"), BROKEN),
        "SETITEM on a tensor": (torch_zip(tensor() + text("k") + b"Ns"), BROKEN),
        "a tuple as a key": (torch_zip(b"})Ns"), CODE),
        "None as a key": (torch_zip(b"}NNs"), CODE),
        "True as a key": (torch_zip(b"}\x88Ns"), CODE),
        "NaN as a key": (torch_zip(b"}G" + struct.pack(">d", float("nan")) + b"Ns"), CODE),
        "a tensor as a key": (torch_zip(b"}" + tensor() + b"Ns"), CODE),
        "protocol 255": (zip_of({"a/data.pkl": b"\x80\xff}."}), BROKEN),
        "STOP alone": (zip_of({"a/data.pkl": b"."}), BROKEN),
        "a mark at STOP": (torch_zip(b"("), BROKEN),
        "a NUL in a name": (torch_zip(call("os\0", "system")), CODE),
        "None as the content": (torch_zip(b"N"), CODE),
        "a number as the content": (torch_zip(integer(1)), CODE),
        "a tensor as the content": (torch_zip(tensor()), CODE),
    }


def _layouts() -> Crafted:
    big = 1 << 62
    return {
        "stride 0 over 8 EiB": (torch_zip(a_dict(w=tensor(shape=(1 << 30, 1 << 30), stride=(0, 0)))), RANGE),
        "stride 0 of two": (torch_zip(a_dict(w=tensor(shape=(2, 1), stride=(0, 1)))), LAYOUT),
        "a stride of 2^63": (torch_zip(a_dict(w=tensor(shape=(2, 2), stride=(-(1 << 63), 1)))), LAYOUT),
        "negative strides": (torch_zip(a_dict(w=tensor(offset=0, shape=(2, 2), stride=(-2, -1)))), LAYOUT),
        "an offset of 2^62": (torch_zip(a_dict(w=tensor(offset=big))), RANGE),
        "an offset of -2^62": (torch_zip(a_dict(w=tensor(offset=-big))), RANGE),
        "a negative offset of an empty tensor": (
            torch_zip(a_dict(w=tensor(offset=-1, shape=(0,), stride=(1,)))),
            RANGE,
        ),
        "overlapping windows": (torch_zip(a_dict(w=tensor(shape=(3, 2), stride=(1, 1)))), RANGE),
        "overlapping windows in range": (torch_zip(a_dict(w=tensor(shape=(2, 2), stride=(1, 1)))), LAYOUT),
        "a size of 2^62": (torch_zip(a_dict(w=tensor(shape=(big,)))), BROKEN),
        "sizes whose product is 0 mod 2^64": (
            torch_zip(a_dict(w=tensor(shape=(1 << 30, 1 << 30, 16), stride=(1, 1, 1)))),
            BROKEN,
        ),
        "a size that is True": (
            torch_zip(
                a_dict(
                    w=call(
                        "torch._utils",
                        "_rebuild_tensor_v2",
                        storage(),
                        integer(0),
                        b"\x88\x85",
                        integers(1),
                        b"\x89",
                        b"}",
                    )
                )
            ),
            BROKEN,
        ),
        "a size that is a float": (
            torch_zip(
                a_dict(
                    w=call(
                        "torch._utils",
                        "_rebuild_tensor_v2",
                        storage(),
                        integer(0),
                        b"G" + struct.pack(">d", 4.0) + b"\x85",
                        integers(1),
                        b"\x89",
                        b"}",
                    )
                )
            ),
            BROKEN,
        ),
        "a storage below zero": (torch_zip(a_dict(w=tensor(of=storage(count=-4), shape=(0,)))), RANGE),
        "a storage of 2^62": (torch_zip(a_dict(w=tensor(of=storage(count=big), shape=(1 << 31 - 1,)))), RANGE),
        "a storage smaller than its record": (torch_zip(a_dict(w=tensor(of=storage(count=3), shape=(3,)))), RANGE),
        "a storage of another width": (torch_zip(a_dict(w=tensor(of=storage(kind="DoubleStorage")))), RANGE),
        "a storage that is the pickle": (torch_zip(a_dict(w=tensor(of=storage("../data.pkl")))), BROKEN),
        "a storage by an absolute path": (torch_zip(a_dict(w=tensor(of=storage("/etc/passwd")))), BROKEN),
        "a storage without a name": (torch_zip(a_dict(w=tensor(of=storage("")))), BROKEN),
        "a 4-bit storage": (torch_zip(a_dict(w=tensor(of=storage(kind="QUInt4x2Storage")))), CODE),
        "an untyped storage": (torch_zip(a_dict(w=tensor(of=storage(kind="UntypedStorage")))), CODE),
        "a tensor with a conjugate bit": (
            torch_zip(
                a_dict(
                    w=call(
                        "torch._utils",
                        "_rebuild_tensor_v2",
                        storage(),
                        integer(0),
                        integers(4),
                        integers(1),
                        b"\x89",
                        b"}",
                        a_dict(conj=b"\x88"),
                    )
                )
            ),
            CODE,
        ),
        "a million dimensions": (
            lambda: torch_zip(a_dict(w=tensor(shape=(1,) * 100_000, stride=(1,) * 100_000))),
            "model-too-many-dimensions",
        ),
        "infinity in a slice": (
            torch_zip(a_dict(w=tensor(shape=(1,), offset=3)), {"0": np.array([0, 0, 0, np.inf], "<f4").tobytes()}),
            "model-tensor-not-finite",
        ),
        "a boolean of 255": (
            torch_zip(a_dict(w=tensor(of=storage(kind="BoolStorage"))), {"0": b"\x00\x01\x00\xff"}),
            BROKEN,
        ),
        "NaN in a transposed half": (
            torch_zip(
                a_dict(w=tensor(of=storage(kind="HalfStorage"), shape=(2, 2), stride=(1, 2))),
                {"0": np.array([0, 1, 2, np.nan], "<f2").tobytes()},
            ),
            "model-tensor-not-finite",
        ),
    }


def _contents() -> Crafted:
    return {
        "a name of spaces and a tab": (torch_zip(a_dict(**{"a\tb": tensor()})), "model-tensor-name-not-accepted"),
        "a name of 10,000 characters": (
            torch_zip(a_dict(**{"a" * 10_000: tensor()})),
            "model-tensor-name-not-accepted",
        ),
        "the name __metadata__": (torch_zip(a_dict(__metadata__=tensor())), "model-tensor-name-not-accepted"),
        "an empty name": (torch_zip(b"}(" + text("") + tensor() + b"u"), "model-tensor-name-not-accepted"),
        "three wrappers": (
            torch_zip(a_dict(**{key: a_dict(w=tensor()) for key in ("state_dict", "model", "net")})),
            "model-wrapper-ambiguous",
        ),
        "a wrapper in a wrapper": (torch_zip(a_dict(model=a_dict(state_dict=a_dict(w=tensor())))), "model-no-tensors"),
        "a list of tensors": (torch_zip(a_dict(model=b"](" + tensor() + b"e")), "model-no-tensors"),
        "a tensor and a list": (torch_zip(a_dict(w=tensor(), b=b"](" + tensor() + b"e")), "model-entry-not-a-tensor"),
        "a tensor and a storage": (torch_zip(a_dict(w=tensor(), b=storage())), "model-entry-not-a-tensor"),
        "a tensor and a class": (
            torch_zip(a_dict(w=tensor(), b=name("collections", "OrderedDict"))),
            "model-entry-not-a-tensor",
        ),
    }
