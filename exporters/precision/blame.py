"""Which layers must stay in fp32 for a gate to pass: found by halving, since each try costs a quantisation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

TRIES = 16


class _Exhausted(Exception):
    """No try is left."""


class _Search:
    """One search, and the smallest selection that passed so far."""

    def __init__(self, passes: Callable[[tuple[str, ...]], bool], tries: int):
        self._passes, self._left = passes, tries
        self._known: dict[frozenset[str], bool] = {}
        self.best: tuple[str, ...] | None = None

    def passes(self, kept: tuple[str, ...]) -> bool:
        """Whether the gate passes with these in fp32. Raises _Exhausted."""
        key = frozenset(kept)
        if key not in self._known:
            if not self._left:
                raise _Exhausted
            self._left -= 1
            self._known[key] = self._passes(kept)
            if self._known[key] and (self.best is None or len(kept) < len(self.best)):
                self.best = kept
        return self._known[key]

    def needed(self, kept: tuple[str, ...], layers: tuple[str, ...], news: bool) -> tuple[str, ...]:
        """The layers that must be kept besides ``kept``: QuickXplain (Junker 2004).

        Args:
            news: whether ``kept`` has grown since it was last tried.
        """
        if news and self.passes(kept):
            return ()
        if len(layers) == 1:
            return layers
        half = len(layers) // 2
        first, second = layers[:half], layers[half:]
        of_second = self.needed(kept + first, second, True)
        of_first = self.needed(kept + of_second, first, bool(of_second))
        return of_first + of_second


def layers_to_keep(
    layers: Sequence[str], passes: Callable[[tuple[str, ...]], bool], tries: int = TRIES
) -> tuple[str, ...] | None:
    """Layers that must stay in fp32, in the order of ``layers``: none of them can be left out.

    Blocks of neighbours are tried before single layers: one layer to blame among ``n`` is found in about
    ``2 log2(n)`` tries, each further one in as many. Where the tries run out, the smallest selection that passed
    stands, a block instead of its layer.

    Args:
        layers: all that compute in int8, in the order of the graph; with none of them in int8 the gate must pass.
        passes: whether the gate passes with these layers in fp32: one try.
        tries: how many may be made.

    Returns:
        The selection, or None where none that was tried passed.
    """
    search = _Search(passes, tries)
    try:
        found = search.needed((), tuple(layers), False)
        if found and search.passes(found):
            search.best = found
    except _Exhausted:
        pass
    if search.best is None:
        return None
    best = set(search.best)
    return tuple(layer for layer in layers if layer in best)
