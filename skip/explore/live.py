"""The live page: sliders, plain beside tuned, and the state as a command, as Python and as a link. Needs gradio."""

import importlib
import os
from collections.abc import Mapping
from html import escape
from typing import Any

from dnnlib.colours import DARK, LIGHT
from dnnlib.pictures import data_url, encoded
from skip.explore.compare import Compared, Comparer
from skip.explore.state import SAMPLERS, State, written

PLAIN, DIFFERENCE = "plain beside tuned", "difference"
STYLE = f"""
.pair {{ display: flex; flex-wrap: wrap; gap: 1rem; }}
.pair figure {{ flex: 1 1 16rem; margin: 0; max-width: 34rem; }}
.pair img {{ width: 100%; image-rendering: pixelated; border-radius: .3rem; }}
.gradio-container {{ --block-info-text-color: {LIGHT["soft"]}; --body-text-color-subdued: {LIGHT["soft"]}; }}
.dark .gradio-container {{ --block-info-text-color: {DARK["soft"]}; --body-text-color-subdued: {DARK["soft"]}; }}
/* Or gradio reserves five lines of a height that it measured while they were broken at every letter. */
.to-copy .cm-scroller {{ min-height: 0 !important; }}
.refused {{ border-left: .3rem solid {LIGHT["not"]}; padding-left: .8rem; }}
"""
GRADIO_MISSING = (
    "the live page needs the package gradio: pip install -c constraints.txt '.[explore]'; --page FILE writes one of "
    "images made before, and needs nothing more"
)


def gradio_module() -> Any:
    """gradio, told to send nothing anywhere.

    Raises:
        RuntimeError: if it is not installed.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        return importlib.import_module("gradio")  # not at the top: optional, and it takes seconds
    except ImportError as error:
        raise RuntimeError(GRADIO_MISSING) from error


def build(comparer: Comparer, first: State, classes: int) -> Any:
    """The page, not yet served.

    Args:
        comparer: makes the images.
        first: the state of a link without any.
        classes: of the network; 0 for one without.
    Returns:
        gradio's Blocks.
    """
    gradio = gradio_module()
    with gradio.Blocks(title="Skip-Tuning", analytics_enabled=False) as page:
        gradio.Markdown(
            "# Skip-Tuning\nThe long skips of a diffusion U-Net, multiplied by rho: the same seeds, plain and tuned."
        )
        with gradio.Row():
            with gradio.Column(scale=1, min_width=300):
                controls = _controls(gradio, first, classes)
                look = gradio.Radio([PLAIN, DIFFERENCE], value=PLAIN, label="View")
            with gradio.Column(scale=2, min_width=320):
                pictures = gradio.HTML()
                # Without colours of syntax, which are pale.
                command, snippet = (
                    gradio.Code(
                        language=None,
                        label=label,
                        interactive=False,
                        wrap_lines=True,
                        show_line_numbers=False,
                        elem_classes="to-copy",
                    )
                    for label in ("Command", "Python")
                )
                link = gradio.HTML()

        def show(view: str, *values: Any) -> tuple[str, str, str, str]:
            try:
                state = _state(first, values)
                return (
                    _pictures(comparer(state), state, view),
                    state.command(),
                    state.snippet(),
                    f'<a href="/?{escape(state.query())}">Link to this state</a>',
                )
            except (ValueError, FileNotFoundError, RuntimeError) as error:
                return f'<p class="refused">{escape(str(error))}</p>', "", "", ""

        def restore(request: gradio.Request) -> list[Any]:  # type: ignore[name-defined]
            try:
                return _values(_of_link(first, dict(request.query_params)))
            except ValueError as error:
                gradio.Warning(str(error))
                return _values(first)

        shown = [pictures, command, snippet, link]
        gradio.on(
            [look.change, *(control.change for control in controls)],
            show,
            [look, *controls],
            shown,
            show_progress="minimal",
            show_progress_on=pictures,
            trigger_mode="always_last",
        )
        page.load(restore, None, controls).then(
            show, [look, *controls], shown, show_progress_on=pictures
        )
    return page


def _of_link(first: State, query: Mapping[str, str]) -> State:
    """What a link says; another network than the one that is served is not loaded for whoever writes a link."""
    asked = query.get("network", first.network)
    if asked != first.network:
        raise ValueError(
            f"the link is of the network {asked}, this page of {first.network}: "
            f"python explore.py --network={asked}"
        )
    return State.from_query(query, network=first.network, labels=first.labels)


def _controls(gradio: Any, first: State, classes: int) -> list[Any]:
    """In the order of `_values`."""
    choices = [("seed modulo classes", "")] + [(str(k), str(k)) for k in range(classes)]
    return [
        gradio.Slider(0.0, 1.5, first.rho_bottom, step=0.01, label="rho, deepest layer"),
        gradio.Slider(0.0, 1.5, first.rho_top, step=0.01, label="rho, towards the top"),
        gradio.Slider(2, 64, first.steps, step=1, label="Steps"),
        gradio.Dropdown(list(SAMPLERS), value=first.sampler, label="Sampler"),
        gradio.Textbox(written(first.sigma_low), label="Tune only above sigma"),
        gradio.Textbox(written(first.sigma_high), label="Tune only up to sigma"),
        gradio.Dropdown(choices, value="", label="Class", visible=classes > 0),
        gradio.Textbox(first.seeds, label="Seeds", info="such as 0-15 or 3,7,20-29"),
        gradio.Slider(1.0, 5.0, first.guidance, step=0.1, label="Guidance (1 is none)"),
    ]


NAMES = (
    "rho_bottom", "rho_top", "steps", "sampler", "sigma_low", "sigma_high", "class_idx", "seeds",
    "guidance",
)  # fmt: skip


def _values(state: State) -> list[Any]:
    """What the controls show of a state."""
    found = [getattr(state, name) for name in NAMES]
    as_text = {"sigma_low", "sigma_high", "class_idx"}
    return [
        written(value) if name in as_text else value
        for name, value in zip(NAMES, found, strict=True)
    ]


def _state(first: State, values: tuple[Any, ...]) -> State:
    """The state that the controls show."""
    query = {name: written(value) for name, value in zip(NAMES, values, strict=True)}
    return State.from_query(query, network=first.network, labels=first.labels)


def _pictures(compared: Compared, state: State, view: str) -> str:
    """The sheets of a view, each with what it is."""
    number = len(state.parsed_seeds)
    tuned = f"rho {state.rho_bottom:g} to {state.rho_top:g}"
    sheets = [
        (compared.plain, "plain, rho 1", f"{number} images without Skip-Tuning"),
        (compared.tuned, tuned, f"the same seeds with {tuned}"),
    ]
    if view == DIFFERENCE:
        text = "tuned less plain: gray is no difference"
        sheets = [(compared.difference, text, f"the difference of {number} images")]

    figures = [
        f'<figure><img alt="{escape(alt)}" src="{data_url(encoded(image))}">'
        f"<figcaption>{escape(text)}</figcaption></figure>"
        for image, text, alt in sheets
    ]
    line = (
        f"{compared.evaluations} evaluations an image; a pixel changes by {compared.changed:.1%} of the range on "
        f"average; {compared.seconds:.1f} s"
    )
    return f'<div class="pair">{"".join(figures)}</div><p>{line}</p>'
