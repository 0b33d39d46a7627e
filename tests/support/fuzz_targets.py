"""What a fuzzer calls: every parser of ours that reads bytes of strangers, with a few whole inputs to begin with.

A target returns when its parser reads the bytes or refuses them as its docstring says. Whatever else is raised, a
crash, a hang or memory without bound is a finding. Where two readers know one format, they must agree.
"""

from __future__ import annotations

import io
import json
import pickle
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from answer_schemas import SCHEMAS
from PIL import Image
from pycocotools import mask as coco
from pydantic import ValidationError
from small_tflite import small_tflite

from tritonvision import catalog, grounding, tasks
from tritonvision.ensembles import published
from tritonvision.errors import TritonVisionError
from tritonvision.exporters.graphs import tflite_reader
from tritonvision.exporters.packages.config import InferenceConfig
from tritonvision.exporters.packages.files import INFERENCE, NAMES, PackageFolder
from tritonvision.facade.inputs import arrays, json_body
from tritonvision.facade.inputs.fetch import is_public
from tritonvision.facade.inputs.pictures import from_base64
from tritonvision.nesting import deeper_than
from tritonvision.pictures import FLOATS, decode, read_header, read_npy
from tritonvision.publication import Manifest
from tritonvision.python_backend.generation.grammar import Grammars
from tritonvision.results import InstancesRLEMasks

FEW_PIXELS = 1 << 18  # of pictures that a target decodes, too
PICTURE = np.arange(36, dtype=np.uint8).reshape(4, 3, 3)


@dataclass(frozen=True)
class Target:
    """One parser.

    Attributes:
        read: raises for a finding alone.
        seeds: whole inputs.
    """

    read: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]


@cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="fuzz-"))


def _saved(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def _encoded(kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.kron(PICTURE, np.ones((4, 4, 1), np.uint8))).save(stream, kind, **options)
    return stream.getvalue()


def _pickle(data: bytes) -> None:
    try:
        assert arrays.read_array(data, FEW_PIXELS).dtype == np.uint8
    except TritonVisionError:
        pass


def _npy(data: bytes) -> None:
    for types in (("u1",), FLOATS):
        try:
            ours = read_npy(data, types)
        except TritonVisionError:
            continue
        try:
            theirs = np.load(io.BytesIO(data), allow_pickle=False)
        except Exception:  # numpy evaluates the header, so there is no end of kinds
            continue
        assert theirs.shape == ours.shape and np.array_equal(theirs, ours, equal_nan=types != ("u1",)), "read otherwise"


def _picture(data: bytes) -> None:
    try:
        header = read_header(data, FEW_PIXELS)
        pixels = decode(data)
    except TritonVisionError:
        return
    assert pixels.shape[1::-1] == header.shown() and pixels.dtype == np.uint8


def _tflite(data: bytes) -> None:
    try:
        tflite_reader.read(data)
    except TritonVisionError:
        pass


def _run_lengths(data: bytes) -> None:
    height, width = data[0] % 64 + 1 if data else 1, data[1] % 64 + 1 if data[1:] else 1
    masks = InstancesRLEMasks((height, width), [data[2:]])
    try:
        dense = masks.to_dense()
    except ValueError:
        return
    theirs = coco.decode(masks.to_coco_rle_masks()).transpose(2, 0, 1)
    assert dense.shape == (1, height, width) and np.array_equal(theirs, dense), "read otherwise"


def _package(data: bytes) -> None:
    folder = _folder() / "package"
    folder.mkdir(exist_ok=True)
    for name in (INFERENCE, NAMES):
        (folder / name).write_bytes(data)
    package = PackageFolder(folder)
    for read in (lambda: package.json(INFERENCE, InferenceConfig).resize(114), package.class_names):
        try:
            read()
        except (TritonVisionError, ValidationError):
            pass


def _config(data: bytes) -> None:
    folder = _folder() / "model"
    folder.mkdir(exist_ok=True)
    (folder / "config.pbtxt").write_bytes(data)
    try:
        published.read_config(folder, _manifest_of())
    except TritonVisionError:
        pass


@cache
def _manifest_of() -> Manifest:
    return Manifest(
        id="mine/1", family="f", task="object-detection", head="h", weights="random", source="s", sha256="0",
        license="l", precision="fp32", labels=("a",), input_size=(4, 4), steps=(),
    )  # fmt: skip


def _manifest(data: bytes) -> None:
    try:
        Manifest.from_json(data.decode())
    except (ValueError, TypeError, KeyError):
        pass


def _body(data: bytes) -> None:
    json_body.starts_an_object(data)
    try:
        value = json_body.parsed(data)
    except (ValueError, TritonVisionError):
        return
    repr(value)  # as errors do
    json.dumps(value)
    assert not deeper_than(value, 100)


@cache
def _grammars() -> Grammars:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: i for i, letter in enumerate(["<end>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer.add_special_tokens(["<end>"])
    return Grammars(tokenizer, len(vocabulary), [0])


def _schema(data: bytes) -> None:
    (parameter,) = (parameter for parameter in tasks.VLM.parameters if parameter.name == "schema")
    try:
        schema = parameter.check(json_body.parsed(data))
        if schema is not None:
            grammar = _grammars().of(schema)
            for _ in range(3):
                tokens = np.flatnonzero(grammar.allowed())
                if not tokens.size or tokens[0] == 0:
                    break
                grammar.take(int(tokens[0]))
    except (ValueError, TritonVisionError):
        pass


def _places(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    for convention in ("", *grounding.CONVENTIONS):
        found = grounding.parse(convention, grounding.split(text).answer, 64, 48)
        grounding.caption(text, found)


def _text(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    for read in (lambda: from_base64(text), lambda: from_base64(data), lambda: catalog.check_id(text)):
        try:
            read()
        except TritonVisionError:
            pass
    is_public(text)


CONFIGS = [
    {"network_input": {"training_input_size": {"height": 32, "width": 32}, "color_mode": "rgb",
                       "resize_mode": "letterbox", "padding_value": 114, "scaling_factor": 255}},
    {"network_input": {"training_input_size": {"height": 9, "width": 9}, "color_mode": "bgr",
                       "resize_mode": "crop-87.5-bicubic", "normalization": [[0, 0, 0], [1, 1, 1]]},
     "image_pre_processing": {"auto-orient": {"enabled": True}}, "post_processing": {"type": "nms", "fused": True}},
]  # fmt: skip
PBTXT = b'name: "m"\nplatform: "ensemble"\nmax_batch_size: 8\ninput [{ name: "i" data_type: TYPE_STRING dims: [1] }]\n'
ANSWERS = [
    '[{"bbox_2d": [1, 2, 30, 40], "label": "cat"}]', "<loc0001><loc0002><loc0003><loc0004> cat ; <seg001>",
    "car<loc_52><loc_332><loc_932><loc_774>", "<ref>cat</ref><box>[[1, 2, 3, 4]]</box>", "<think>a</think>{'a': [1,]}",
    '{"phrase_grounding": {"sentence": "a cat", "groundings": [{"phrase": "cat", "grounding": [[1, 2, 3, 4]]}]}}',
]  # fmt: skip

TARGETS = {
    "pickled arrays": Target(_pickle, lambda: [
        pickle.dumps(array, protocol)
        for protocol in range(6) for array in (PICTURE, np.asfortranarray(PICTURE[..., 0]), np.zeros(3), [1, "a"])
    ]),
    ".npy": Target(_npy, lambda: [
        _saved(array) for array in (PICTURE, np.asfortranarray(PICTURE), np.float32(PICTURE), np.float64(PICTURE[0]),
                                    PICTURE.astype(">f2"))
    ]),
    "pictures": Target(_picture, lambda: [
        *(_encoded(kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")), _saved(PICTURE),
        _encoded("JPEG", progressive=True), _encoded("WEBP", lossless=True), _encoded("TIFF", compression="tiff_lzw"),
    ]),
    "TFLite": Target(_tflite, lambda: [small_tflite()]),
    "run lengths": Target(_run_lengths, lambda: [b"\x03\x03" + counts for counts in (b"52203", b"0", b"`0", b"0T4")]),
    "packages": Target(_package, lambda: [json.dumps(config).encode() for config in CONFIGS] + [b"cat\ndog\n"]),
    "config.pbtxt": Target(_config, lambda: [PBTXT]),
    "manifests": Target(_manifest, lambda: [_manifest_of().to_json().encode()]),
    "JSON bodies": Target(_body, lambda: [json.dumps(config).encode() for config in CONFIGS] + [b'{"a":[1e308,null]}']),
    "schemas of answers": Target(_schema, lambda: [json.dumps(schema).encode() for schema in SCHEMAS.values()]),
    "places in texts": Target(_places, lambda: [text.encode() for text in ANSWERS]),
    "texts": Target(_text, lambda: [b"data:image/png;base64,AAEC", b"coco/3", b"::ffff:127.0.0.1", b"fe80::1%lo"]),
}  # fmt: skip
