"""easyocr's packs: a recogniser, its characters, and the languages that are written with them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import BadZipFile

from tritonvision.errors import ExportFailed, InvalidParameter
from tritonvision.exporters import weight_files as files

# By generation. The pack of Arabic is missing: its recogniser writes letters as they stand, from left to right, and
# the library that puts them into the order of speaking may not be shipped with this project.
_GENERATIONS = {
    2: ("english_g2", "latin_g2", "cyrillic_g2", "zh_sim_g2", "japanese_g2", "korean_g2", "telugu_g2", "kannada_g2"),
    1: ("latin_g1", "cyrillic_g1", "zh_sim_g1", "zh_tra_g1", "japanese_g1", "korean_g1", "thai_g1", "devanagari_g1",
        "bengali_g1", "tamil_g1"),
}  # fmt: skip
NAMES = (*_GENERATIONS[2], *_GENERATIONS[1])
_BESIDE_ENGLISH = {  # languages of the packs that easyocr has no list of, by the first part of a pack's name
    "english": (), "thai": ("th",), "zh_tra": ("ch_tra",), "zh_sim": ("ch_sim",), "japanese": ("ja",),
    "korean": ("ko",), "tamil": ("ta",), "telugu": ("te",), "kannada": ("kn",),
}  # fmt: skip
_NARROWEST = 64  # pixels


@dataclass(frozen=True)
class Pack:
    """A recogniser.

    Attributes:
        name: as easyocr calls it: ``latin_g2``.
        generation: 1 or 2.
        file: of its weights.
        characters: that it knows, in their order.
        languages: codes of those that are read.
        ignored: characters that none of the languages has.
    """

    name: str
    generation: int
    file: str
    characters: str
    languages: tuple[str, ...]
    ignored: str

    def with_characters(self, characters: str) -> Pack:
        """The same network trained on other characters, all of which are read."""
        return replace(self, characters=characters, ignored="")


def find(name: str, wanted: tuple[str, ...] = ()) -> Pack:
    """The pack of that name; ``wanted`` are codes of languages, all of the pack where there are none.

    Raises:
        InvalidParameter: the pack does not read one of the languages.
    """
    from easyocr import config

    generation = next(number for number, names in _GENERATIONS.items() if name in names)
    facts = config.recognition_models[f"gen{generation}"][name]
    offered = _languages(name)
    foreign = [code for code in wanted if code not in offered]
    if foreign:
        raise InvalidParameter(
            f"The pack {name} does not read the language '{foreign[0][:40]}'.", hint=f"It reads: {', '.join(offered)}."
        )
    read = set(facts["symbols"]).union(*(_letters(code) for code in wanted or offered))
    ignored = "".join(letter for letter in facts["characters"] if letter not in read)
    return Pack(name, generation, facts["filename"], facts["characters"], wanted or offered, ignored)


def _languages(name: str) -> tuple[str, ...]:
    """Codes of the languages of a pack whose letters easyocr lists."""
    from easyocr import config

    script = name.rpartition("_")[0]
    codes = _BESIDE_ENGLISH.get(script)
    found = tuple(getattr(config, f"{script}_lang_list")) if codes is None else codes
    return tuple(code for code in dict.fromkeys((*found, "en")) if _letters(code))


def _letters(code: str) -> set[str]:
    from easyocr import config

    path = Path(config.BASE_PATH) / "character" / f"{code}_char.txt"
    return set(path.read_text("utf-8-sig").splitlines()) if path.is_file() else set()


def languages(name: str, text: str) -> tuple[str, ...]:
    """The codes in ``de,fr``; none where it is empty. Raises InvalidParameter."""
    codes = tuple(code.strip() for code in text.split(",")) if text else ()
    if any(not code.replace("_", "").isalnum() for code in codes):
        raise InvalidParameter(f"'{text[:40]}' is no list of languages.", hint="Codes parted by commas: de,fr")
    return tuple(dict.fromkeys(codes))


def longest(text: str, most: int) -> int:
    """Pixels of the longest side. Raises InvalidParameter."""
    if not text.isdecimal() or not _NARROWEST <= int(text[:9]) <= most:
        raise InvalidParameter(
            f"The option canvas_size cannot be '{text[:40]}'.", hint=f"Pixels, {_NARROWEST} to {most}."
        )
    return int(text)


def download_detector() -> Path:
    """CRAFT's released weights. Raises ExportFailed."""
    from easyocr import config

    return _download(config.detection_models["craft"])


def download(pack: Pack) -> Path:
    """The released weights of a recogniser. Raises ExportFailed."""
    from easyocr import config

    return _download(config.recognition_models[f"gen{pack.generation}"][pack.name])


def _download(facts: dict[str, str]) -> Path:
    """A file by easyocr's own downloader, or from its folder; its MD5 is the one that easyocr names."""
    from easyocr import config, utils

    folder = Path(config.MODULE_PATH) / "model"
    path = folder / facts["filename"]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.is_file():
            utils.download_and_unzip(facts["url"], facts["filename"], str(folder), verbose=False)
    except (OSError, BadZipFile, KeyError) as error:  # no network, or another file
        raise files.unavailable(facts["filename"]) from error
    if utils.calculate_md5(path) != facts["md5sum"]:
        raise ExportFailed(
            f"{facts['filename']} is not the file that easyocr released.", hint=f"Remove {path} and export again."
        )
    return path


@contextmanager
def same_path() -> Iterator[None]:
    """Undo what easyocr's reader adds to the places that Python imports from."""
    before = list(sys.path)
    try:
        yield
    finally:
        sys.path[:] = before
