"""What python -m training.checkpoint does."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from dnnlib import hub
from dnnlib.cli import warn
from dnnlib.files import check_ending, check_writable
from dnnlib.text import in_columns
from training.checkpoint_flags import ConvertFlags, ListFlags, ReconstructFlags
from training.power_ema import ERROR, LENGTH, WARNED_ERROR, added, find_stored, mixture
from training.presets import Preset, load_presets
from training.storage import built, describe, load_network, save_network


def list_networks(flags: ListFlags) -> None:
    """What `python -m training.checkpoint list` does."""
    presets = [_facts(preset) for preset in load_presets().values()]
    click.echo(json.dumps(presets, indent=2) if flags.json else "\n".join(_table(presets)))


def convert(flags: ConvertFlags, source: str, target: Path) -> None:
    """What `python -m training.checkpoint convert` does."""
    _check_target(target)
    net = load_network(source, autoencoder=flags.autoencoder)
    for param in net.parameters() if flags.half else ():
        param.data = param.data.half()

    facts = describe(source, flags.autoencoder)
    licence = facts["licence"] or "that of the source"
    more = {name: value for name, value in facts.items() if name == "autoencoder_sha256"}
    if net.assumed:
        more["assumed"] = net.assumed  # in the file of the result it is one argument among others

    save_network(net, target, source=source, source_sha256=facts["sha256"], licence=licence, **more)
    count = sum(p.numel() for p in net.parameters())
    click.echo(
        f"{_written(target)}: {type(net).__name__}, {count:,} parameters; licence: {licence}"
    )


def reconstruct(flags: ReconstructFlags, folder: Path, target: Path) -> None:
    """What `python -m training.checkpoint reconstruct` does."""
    _check_target(target)
    mix = mixture(find_stored(folder), flags.std, flags.images)
    if mix.error > WARNED_ERROR:
        warn(
            f"the nearest sum of these averages is {mix.error:.1%} off the length {flags.std:g}, more than "
            f"{WARNED_ERROR:.0%}: more snapshots, or a length nearer to those that are stored, come nearer"
        )

    net = built(*added(mix))
    told = {"images_seen": mix.images_seen, LENGTH: flags.std, ERROR: mix.error}
    save_network(net, target, **told)
    click.echo(
        f"{_written(target)}: length {flags.std:g} after {mix.images_seen:,} images, from {len(mix.used)} files, "
        f"{mix.error:.2%} off"
    )


def _facts(preset: Preset) -> dict[str, Any]:
    """What is known of a network, as JSON; the size in MB, measured if it is here with all that it needs."""
    here, missing = not preset.missing, [str(path) for path in preset.missing]
    size = round(preset.local_path.stat().st_size / 1e6, 1) if here else preset.size
    return asdict(preset) | {
        "file": str(preset.local_path),
        "here": here,
        "missing": missing,
        "size": size,
    }


def _table(presets: list[dict[str, Any]]) -> list[str]:
    """The lines of a table, with the notes in its last column broken to fit."""
    heads = ("name", "MB", "here", "licence", "defaults", "note")
    return in_columns([heads, *(_row(preset) for preset in presets)])


def _row(facts: dict[str, Any]) -> tuple[str, ...]:
    """The cells of a network: name, size, whether it is here, licence, defaults, note."""
    size = "?"
    if facts["size"] is not None:
        size = f"{facts['size']:.1f}" if facts["here"] else f"~{facts['size']}"

    defaults = []
    for name, value in facts["defaults"].items():
        shown = {"sampler": str(value), "guide": "a guide"}
        defaults.append(shown.get(name, f"{name} {value}"))

    here = "yes" if facts["here"] else "no"
    return (
        facts["name"],
        f"{size:>6s}",
        here,
        facts["licence"],
        ", ".join(defaults) or "-",
        facts["note"],
    )


def _check_target(target: Path) -> None:
    """Refuse what a network cannot be stored as."""
    written = _written(target)
    if target.exists():
        raise ValueError(f"{target} exists; delete it first, or choose another name")
    check_ending(written, "TARGET", "", ".safetensors")
    if not hub.is_hub(target):
        check_writable(target, "TARGET")


def _written(target: Path) -> str:
    """TARGET as it was given: of hf://OWNER/NAME/FILE a Path keeps one slash."""
    return str(hub.parse(target) if hub.is_hub(target) else target)
