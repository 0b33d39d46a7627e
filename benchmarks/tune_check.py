"""Whether ``tune`` chooses as well as a search that looks long at every setting.

    python benchmarks/tune_check.py MODEL --repository DIR [--seconds 60] [--look 6] [--rounds 3]

First the search of ``tritonvision tune MODEL --dry-run``; then every setting by turns, ``--rounds`` looks of ``--look``
seconds each. The best of those, by the rule of ``tune``, is what the chosen one is compared with, in figures of the
long looks alone.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import machine

from tritonvision.cli.tune import words
from tritonvision.exporters.variants import tuning
from tritonvision.exporters.variants.search import Look, choose, means
from tritonvision.settings import Settings


def main() -> None:
    """Print a table in Markdown, and what the choice reaches of the best."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--look", type=float, default=6.0)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    settings = Settings(repository=given.repository)
    planned = tuning.plan(settings, given.model)
    chosen = tuning.run(settings, planned, given.seconds, None).chosen
    if chosen is None:
        raise SystemExit("tune chose nothing.")
    looks: dict[tuning.Trial, list[Look]] = {trial: [] for trial in planned.trials}
    with (
        tempfile.TemporaryDirectory(dir=given.repository.parent) as folder,
        tuning.bench(settings, planned, Path(folder) / "models") as server,
    ):
        for turn in range(given.rounds):
            for trial in planned.trials[:: -1 if turn % 2 else 1]:
                look = server.look(trial, given.look, None)
                looks[trial] += [look] if look else []
    found = means(looks)
    best = choose(found, None)
    assert best is not None, "one of them fits"
    print(f"{machine.describe('openvino')}; {given.model}, tune in {given.seconds:g} s\n")
    print("| setting | a second, four callers | p50 of one, ms | chosen by tune | best of all |\n|---|---|---|---|---|")
    for trial, look in sorted(found.items(), key=lambda pair: -pair[1].per_second):
        marks = ["yes" if trial == one else "" for one in (chosen, best)]
        print(f"| {words(trial)} | {look.per_second:.1f} | {look.p50:.1f} | {marks[0]} | {marks[1]} |")
    print(f"\nThe choice of tune serves {found[chosen].per_second / found[best].per_second:.3f} of the best.")


if __name__ == "__main__":
    main()
