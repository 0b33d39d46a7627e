"""Arrays are read without executing anything, and only plain uint8 pictures are accepted."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import struct
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from tritonvision.errors import InvalidPicture, PictureTooLarge
from tritonvision.facade.inputs.arrays import read_array, to_npy

SHAPES = st.one_of(
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    st.tuples(st.integers(1, 12), st.integers(1, 12), st.sampled_from((1, 3))),
)
PICTURES = SHAPES.flatmap(lambda shape: npst.arrays(np.uint8, shape))
PROTOCOLS = st.integers(0, 5)


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def as_numpy_2(data: bytes) -> bytes:
    """The same pickle as NumPy 2 writes it."""
    if data[1:2] in b"\x04\x05" and data[:1] == b"\x80":  # framed, with lengths before names
        for module in (b"multiarray", b"numeric"):
            old = b"numpy.core." + module
            data = data.replace(bytes([0x8C, len(old)]) + old, bytes([0x8C, len(old) + 1]) + b"numpy._core." + module)
        return data[:2] + data[11:]  # without the frame, whose length would be wrong now
    return data.replace(b"numpy.core.", b"numpy._core.")


@given(PICTURES, PROTOCOLS)
def test_a_pickled_picture_is_read_in_every_protocol(picture, protocol):
    read = read_array(pickle.dumps(picture, protocol))
    assert read.dtype == np.uint8 and np.array_equal(read, picture)


@given(PICTURES, PROTOCOLS)
def test_numpy_2_clients_are_read_too(picture, protocol):
    data = as_numpy_2(pickle.dumps(picture, protocol))
    assert b"_core" in data
    assert np.array_equal(read_array(data), picture)


@given(PICTURES, PROTOCOLS)
def test_memory_order_does_not_matter(picture, protocol):
    assert np.array_equal(read_array(pickle.dumps(np.asfortranarray(picture), protocol)), picture)
    assert np.array_equal(read_array(pickle.dumps(picture[::-1], protocol)), picture[::-1])
    assert np.array_equal(read_array(npy(np.asfortranarray(picture))), picture)


@given(PICTURES)
def test_npy_bytes_are_read(picture):
    assert np.array_equal(read_array(npy(picture)), picture)


def test_npy_headers_of_the_later_versions_are_read():
    picture = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    for version in ((1, 0), (2, 0), (3, 0)):
        stream = io.BytesIO()
        np.lib.format.write_array(stream, picture, version=version)
        assert np.array_equal(read_array(stream.getvalue()), picture)


@given(PICTURES)
def test_arrays_reach_triton_as_rgb_with_three_channels(picture):
    sent = np.load(io.BytesIO(to_npy(picture)), allow_pickle=False)
    assert sent.shape == (*picture.shape[:2], 3) and sent.dtype == np.uint8
    if picture.ndim == 3 and picture.shape[2] == 3:
        assert np.array_equal(sent[..., ::-1], picture)
    else:
        assert all(np.array_equal(sent[..., c], picture.reshape(picture.shape[:2])) for c in range(3))


@settings(max_examples=400)
@given(st.binary(max_size=300))
def test_any_bytes_are_a_picture_or_a_refusal(data):
    with pytest.raises(InvalidPicture):
        read_array(data)


@settings(max_examples=400)
@given(PICTURES, PROTOCOLS, st.data())
def test_a_damaged_pickle_is_a_picture_or_a_refusal(picture, protocol, draw):
    data = bytearray(pickle.dumps(picture, protocol))
    for _ in range(draw.draw(st.integers(1, 3))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    try:
        assert read_array(bytes(data)).dtype == np.uint8
    except (InvalidPicture, PictureTooLarge):
        pass


@settings(max_examples=300)
@given(PICTURES, st.data())
def test_a_damaged_npy_is_a_picture_or_a_refusal(picture, draw):
    data = bytearray(npy(picture))
    data[draw.draw(st.integers(6, 127))] = draw.draw(st.integers(0, 255))
    try:
        assert read_array(bytes(data)).dtype == np.uint8
    except (InvalidPicture, PictureTooLarge):
        pass


@given(PICTURES, PROTOCOLS, st.data())
def test_a_cut_pickle_is_refused(picture, protocol, draw):
    data = pickle.dumps(picture, protocol)
    with pytest.raises(InvalidPicture):
        read_array(data[: draw.draw(st.integers(0, len(data) - 1))])


class Reduces:
    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


def array_state(shape=(2, 2, 3), dtype=np.dtype("u1"), raw=bytes(12), fortran=False, version=1) -> tuple:
    return version, shape, dtype, fortran, raw


def array_pickle(state: object, protocol: int = 4) -> bytes:
    """The pickle of an array with a chosen state."""
    reconstruct = np.zeros(1).__reduce__()[0]
    return pickle.dumps(Reduces(reconstruct, (np.ndarray, (0,), b"b"), state), protocol)


class Persistent(pickle.Pickler):
    def persistent_id(self, obj):
        return "an id" if isinstance(obj, np.ndarray) else None


def persistent() -> bytes:
    stream = io.BytesIO()
    Persistent(stream, 2).dump(np.zeros((2, 2, 3), np.uint8))
    return stream.getvalue()


def out_of_band() -> bytes:
    return pickle.dumps(np.zeros((2, 2, 3), np.uint8), 5, buffer_callback=lambda _: None)


def nothing_but_none() -> bytes:
    return b"\x80\x04" + b"N" * 5_000_000 + b"."


EXEC = "raise SystemExit('executed')"
ATTACKS = {
    "os.system": pickle.dumps(Reduces(os.system, ("exit 1",))),
    "os.system in protocol 0": b"cos\nsystem\n(S'exit 1'\ntR.",
    "builtins.eval": pickle.dumps(Reduces(eval, ("1",))),
    "numpy's exec helper": b"\x80\x02cnumpy.testing._private.utils\nrunstring\n(U\x01xU\x01ytR.",
    "numpy's exec helper without old text": b"\x80\x02cnumpy.testing\nrunstring\n(X\x01\x00\x00\x00x\x85R.",
    "a name next to the known ones": b"\x80\x02cnumpy.core.multiarray\nfromfile\n(X\x0b\x00\x00\x00/etc/passwdtR.",
    "numpy.load": b"\x80\x02cnumpy\nload\n(X\x01\x00\x00\x00xtR.",
    "a dotted name": b"\x80\x04\x8c\x05numpy\x8c\x0dndarray.tofile\x93.",
    "another codec": array_pickle(array_state(raw=bytes(12)), 2).replace(b"latin1", b"zip_ab"),
    "an object in the shape's place": array_pickle(array_state(shape=Reduces(os.getcwd, ()))),
    "an object in the bytes' place": array_pickle(array_state(raw=Reduces(os.getcwd, ()))),
    "an object array": pickle.dumps(np.array([[1, "x"]], dtype=object)),
    "a float array": pickle.dumps(np.zeros((2, 2, 3))),
    "a signed array": pickle.dumps(np.zeros((2, 2, 3), np.int8)),
    "a structured array": pickle.dumps(np.zeros((2, 2), [("a", "u1")])),
    "a subarray type": array_pickle(array_state(dtype=Reduces(np.dtype, ("u1",), (3, "|", ("x", (4,)), None, None)))),
    "a huge shape": array_pickle(array_state(shape=(60_000, 60_000, 3))),
    "a shape beyond 64 bits": array_pickle(array_state(shape=(2**63, 2, 3))),
    "a negative shape": array_pickle(array_state(shape=(-2, -2, 3))),
    "a shape of floats": array_pickle(array_state(shape=(2.0, 2.0, 3.0))),
    "a shape of booleans": array_pickle(array_state(shape=(True, 4, 3))),
    "too few bytes": array_pickle(array_state(raw=bytes(11))),
    "too many bytes": array_pickle(array_state(raw=bytes(13))),
    "another version": array_pickle(array_state(version=2)),
    "a subclass": pickle.dumps(np.zeros((2, 2), np.uint8).view(np.recarray)),
    "four channels": pickle.dumps(np.zeros((2, 2, 4), np.uint8)),
    "four axes": pickle.dumps(np.zeros((1, 2, 2, 3), np.uint8)),
    "one axis": pickle.dumps(np.zeros(12, np.uint8)),
    "no pixels": pickle.dumps(np.zeros((0, 2, 3), np.uint8)),
    "a list": pickle.dumps([1, 2]),
    "two arrays": pickle.dumps((np.zeros((2, 2), np.uint8),) * 2),
    "a persistent id": persistent(),
    "an extension code": b"\x80\x02\x82\x01.",
    "a buffer from elsewhere": out_of_band(),
    "an instance": b"\x80\x02(cnumpy\nndarray\no.",
    "a new object": b"\x80\x02cnumpy\nndarray\n)\x81.",
    "millions of opcodes": nothing_but_none(),
    "a length of 2**62": b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.",
    "nothing": b"",
    "a mark alone": b"(.",
    "a missing memo": b"\x80\x02h\x05.",
    "an unknown protocol": b"\x80\x77N.",
    "a state for nothing": b"\x80\x02b.",
}  # fmt: skip


@pytest.mark.attack("code in weights and packages")
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused_for_little_work(name):
    began = time.thread_time()  # of this thread alone: other work does not count
    with pytest.raises(InvalidPicture):
        read_array(ATTACKS[name])
    assert time.thread_time() - began < 0.2


@pytest.mark.attack("code in weights and packages")
def test_reading_imports_nothing_for_a_pickle():
    code = (
        "import sys\n"
        "from tritonvision.facade.inputs.arrays import read_array\n"
        "from tritonvision.errors import InvalidPicture\n"
        "before = set(sys.modules)\n"
        "names = b'\\x80\\x02cthis\\ns\\n.', b'cantigravity\\nfly\\n.', b'\\x80\\x04\\x8c\\x04this\\x8c\\x01s\\x93.'\n"
        "for data in names:\n"
        "    try: read_array(data)\n"
        "    except InvalidPicture: pass\n"
        "assert set(sys.modules) - before == set(), set(sys.modules) - before"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_consistent_picture_over_the_pixel_limit_is_too_large():
    with pytest.raises(PictureTooLarge):
        read_array(pickle.dumps(np.zeros((11, 10, 3), np.uint8)), max_pixels=100)


def header(text: bytes) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@pytest.mark.attack("malformed arrays")
@pytest.mark.parametrize("data", [
    b"\x93NUMPY", b"\x93NUMPY\x01\x00\xff\xff", header(b""), header(b"__import__('os').getcwd()"), header(b"(" * 900),
    header(b"{'descr': '|O', 'fortran_order': False, 'shape': (2, 2), }") + bytes(4),
    header(b"{'descr': '|u1', 'fortran_order': False, 'shape': (9, 2), }") + bytes(4),
    header(b"{'descr': '|u1', 'fortran_order': False, 'shape': (999999999, 999999999, 3), }") + bytes(4),
    header(b"{'descr': '|u1', 'fortran_order': False, 'shape': (), }") + bytes(1),
    header(b"{'descr': '|u1', 'fortran_order': False, 'shape': (-2, -2), }") + bytes(4),
    npy(np.zeros((2, 2, 3), np.float32)),
])  # fmt: skip
def test_a_bad_npy_is_refused(data):
    with pytest.raises(InvalidPicture):
        read_array(data)


def test_the_reader_never_unpickles():
    source = open(sys.modules["tritonvision.facade.inputs.arrays"].__file__).read()
    assert "import pickle\n" not in source and "pickle.loads" not in source
    assert pickletools.genops.__name__ in source
