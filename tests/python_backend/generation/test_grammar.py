"""Answers by a schema: whatever the logits are, the tokens spell JSON of that schema."""

import json
import time

import jsonschema_rs
import numpy as np
import pytest
from answer_schemas import SCHEMAS

from tritonvision.errors import InvalidParameter
from tritonvision.python_backend.generation.beams import Search, steps
from tritonvision.python_backend.generation.grammar import Branches, Grammars
from tritonvision.python_backend.generation.sampling import Sampler
from tritonvision.tasks import VLM, resolve

END, GAP, VOCABULARY = 1, 500, 1200


@pytest.fixture(scope="module")
def tokenizer(byte_level):
    return byte_level(["<start>", "<end>"])


@pytest.fixture(scope="module")
def sparse(tokenizer):
    """The same tokenizer with ids that leave some out, as of models whose vocabulary has reserved places."""
    spec = json.loads(tokenizer.to_str())
    moved = {token: id if id < 100 else id + GAP for token, id in spec["model"]["vocab"].items()}
    spec["model"]["vocab"] = moved
    return type(tokenizer).from_str(json.dumps(spec))


def written(tokenizer, schema, rng, most=400, **settings):
    """The token ids of one answer over logits that mean nothing, its end included, and whether it ended."""
    settings = resolve(VLM.parameters, {"temperature": 1.0, "seed": int(rng.integers(1 << 30)), **settings})
    grammar = Grammars(tokenizer, VOCABULARY, [END]).of(schema)
    sampler = Sampler(settings, np.array([5, 6]), VOCABULARY, grammar)
    ids = []
    while len(ids) < most:
        ids.append(sampler((3 * rng.normal(size=VOCABULARY)).astype(np.float32)))
        if ids[-1] == END:
            break
    return ids


@pytest.mark.parametrize("name", SCHEMAS)
@pytest.mark.parametrize("gaps", [False, True])
def test_random_logits_write_json_of_the_schema(tokenizer, sparse, name, gaps):
    used, rng = sparse if gaps else tokenizer, np.random.default_rng(len(name))
    for number in range(6):
        ids = written(used, SCHEMAS[name], rng, temperature=float(number % 2))
        assert ids[-1] == END
        assert jsonschema_rs.is_valid(SCHEMAS[name], json.loads(used.decode(ids)))


@pytest.mark.parametrize("name", SCHEMAS)
@pytest.mark.parametrize(("width", "first"), [(1, None), (3, None), (3, 7)])
def test_a_search_among_random_logits_finds_json_of_the_schema(tokenizer, name, width, first):
    allowed = Branches(Grammars(tokenizer, VOCABULARY - 9, [END]).of(SCHEMAS[name]), [END])
    search = Search(0, (END,), most=400, beams=width, early_stopping=True, first=first)
    rng, running = np.random.default_rng(len(name)), steps(search, allowed=allowed)
    asked, ids = next(running), None
    while ids is None:
        try:
            asked = running.send((3 * rng.normal(size=(len(asked[0]), VOCABULARY))).astype(np.float32))
        except StopIteration as ended:
            ids = ended.value.tolist()
    assert ids[-1] == END and (first is None or ids[0] == first)
    assert jsonschema_rs.is_valid(SCHEMAS[name], json.loads(tokenizer.decode(ids[first is not None :])))


def test_a_text_that_took_what_it_must_not_or_is_whole_goes_on_with_nothing(tokenizer):
    branches = Branches(Grammars(tokenizer, VOCABULARY, [END]).of({"enum": [1]}), [END])
    (one,) = np.flatnonzero(branches(np.zeros((1, 0), np.int64))[0])
    assert branches(np.array([[one], [one + 1], [VOCABULARY + 3]])).any(axis=1).tolist() == [True, False, False]
    assert not branches(np.array([[one, END], [one + 1, one]])).any()


def test_a_tokenizer_that_puts_a_space_before_a_text_puts_none_into_an_answer(tokenizer):
    for part, more in (
        ("pre_tokenizer", {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}),
        ("normalizer", {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u0120"}]}),
    ):
        spec = json.loads(tokenizer.to_str()) | {part: more}
        prefixed = type(tokenizer).from_str(json.dumps(spec))
        assert prefixed.encode("fox").ids != tokenizer.encode("fox").ids
        ids = written(prefixed, SCHEMAS["boxes"], np.random.default_rng(1))
        assert ids[-1] == END and jsonschema_rs.is_valid(SCHEMAS["boxes"], json.loads(prefixed.decode(ids)))


def test_every_setting_of_sampling_leaves_the_answer_valid(tokenizer):
    rng, schema = np.random.default_rng(3), SCHEMAS["boxes"]
    for given in ({"top_k": 1}, {"top_k": 5, "top_p": 0.3}, {"repetition_penalty": 5.0}, {"temperature": 2.0}):
        assert jsonschema_rs.is_valid(schema, json.loads(tokenizer.decode(written(tokenizer, schema, rng, **given))))


def test_an_object_without_a_schema_is_any_json_object(tokenizer):
    rng = np.random.default_rng(2)
    whole = [ids for ids in (written(tokenizer, {"type": "object"}, rng) for _ in range(8)) if ids[-1] == END]
    assert whole and all(isinstance(json.loads(tokenizer.decode(ids)), dict) for ids in whole)


@pytest.mark.parametrize(("schema", "reason"), [
    ({"type": "banana"}, "banana"),
    ({"type": 3}, "type must be"),
    ({"properties": []}, "properties must be an object"),
    ({"$ref": "http://127.0.0.1:1/schema.json"}, "does not fetch"),
    ({"$ref": "#/nowhere"}, "does not exist"),
    ({"not": {"type": "string"}}, "not"),
    ({"type": "string", "pattern": "("}, "regex parse error"),
    ({"type": "string", "maxLength": 10**12}, ""),
    ({"enum": []}, ""),
])  # fmt: skip
def test_what_is_no_schema_is_refused_in_one_sentence(tokenizer, schema, reason):
    with pytest.raises(InvalidParameter) as refused:
        Grammars(tokenizer, VOCABULARY, [END]).of(schema)
    said = refused.value.message
    assert said.startswith("No answer can be written by this schema: ") and reason in said
    assert said.endswith(".") and "\n" not in said and len(said) < 250 and refused.value.hint


@pytest.mark.attack("schemas of answers that explode")
@pytest.mark.parametrize("schema", [
    {"type": "string", "pattern": "(a{1000}){1000}"},
    {"type": "string", "pattern": "([a-z]+[0-9]*){50}.*x.{40}"},
    {"type": "array", "items": {"type": "integer"}, "maxItems": 10**9},
    {"type": "array", "minItems": 2000, "items": {"type": "array", "minItems": 2000, "items": {"type": "string"}}},
    {"allOf": [{"anyOf": [{"properties": {f"p{i}{j}": {"type": "string", "pattern": "a*b*"}}} for j in range(8)]}
               for i in range(8)]},
    {"$defs": {"a": {"type": "array", "items": {"$ref": "#/$defs/a"}}}, "$ref": "#/$defs/a"},
    {"enum": [str(i) for i in range(5000)]},
])  # fmt: skip
def test_a_schema_that_would_explode_is_refused_or_followed_and_holds_nobody_up(tokenizer, schema):
    began, rng = time.monotonic(), np.random.default_rng(1)
    try:
        assert written(tokenizer, schema, rng, most=40)
    except InvalidParameter as error:
        assert error.hint
    assert time.monotonic() - began < 10


def test_a_schema_is_bounded_before_it_is_read():
    deep = {}
    for _ in range(70):
        deep = {"items": deep}
    for schema, sentence in (
        (deep, "64 levels"), ({"enum": ["x" * 70_000]}, "65536"), ([1], "a JSON object"),
        ({"a": float("nan")}, "no JSON"),
    ):  # fmt: skip
        with pytest.raises(InvalidParameter, match=sentence):
            resolve(VLM.parameters, {"schema": schema})
