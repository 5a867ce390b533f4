"""What mkdocs is told beyond mkdocs.yml: README.md and its like as pages, pages of the API, and links between them.

Documents are written for a reader of the repository. A link that leads to a page of the site leads there in the site
too; any other file that a document links to is put beside the pages.
"""

import posixpath
import re
from pathlib import Path
from textwrap import indent
from typing import Any

from griffe import Extension, Object
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
# Outside docs/, and where each stands in the site.
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "benchmarks/README.md": "benchmarks/README.md",
    "integrations/comfyui/README.md": "integrations/comfyui/README.md",
}
REPORT = ROOT / "out" / "report" / "index.html"
# In docstrings: the end of the line before a section, and several arguments of which one line tells.
SECTION = re.compile(r"(?<!\n)\n(?=(?:Args|Attributes|Raises|Returns|Yields):\n)")
NAMES = re.compile(r"^    \w+(?:, \w+)+(?=:)", re.MULTILINE)
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)(?=[)#])")

# Title -> what it is about, and its modules in the order in which they are read.
API: dict[str, tuple[str, list[str]]] = {
    "Skip-Tuning": (
        "A denoiser and coefficients of its long skips make another denoiser.",
        ["skip_tuning", "skip.scale", "skip.tuned", "skip.scale_file", "skip.source"],
    ),
    "Sampling": (
        "Noise, noise levels and solvers; they see a function `denoise(x, sigma)` and nothing else.",
        [
            "sampling.denoiser",
            "sampling.samplers",
            "sampling.solver",
            "sampling.settings",
            "sampling.sigmas",
            "sampling.levels",
            "sampling.time_axes",
            "sampling.noise",
            "sampling.generate",
            "sampling.guidance",
            "sampling.churn",
        ],
    ),
    "Solvers": (
        "One module a solver; `sampling.samplers.SAMPLERS` has them by name.",
        [
            "sampling.onestep",
            "sampling.unipc",
            "sampling.dpmpp",
            "sampling.dpmpp_sde",
            "sampling.singlestep",
            "sampling.multistep",
            "sampling.adams",
            "sampling.lagrange",
            "sampling.sa_solver",
            "sampling.ancestral",
            "sampling.consistency",
            "sampling.ablation",
        ],
    ),
    "Other methods on the skips": (
        "FreeU and ScaleLong, alone or before rho.",
        [
            "skip.methods.method",
            "skip.methods.table",
            "skip.methods.freeu",
            "skip.methods.scalelong",
        ],
    ),
    "diffusers": (
        "Skip-Tuning inside a pipeline of diffusers.",
        [
            "skip.diffusers.apply",
            "skip.diffusers.tune",
            "skip.diffusers.tuning",
            "skip.diffusers.pipeline",
            "skip.diffusers.schedulers",
        ],
    ),
    "Networks": (
        "Networks and their preconditioning, and how files of them are read and written.",
        [
            "training.checkpoint",
            "training.precond_base",
            "training.precond",
            "training.networks",
            "training.families.table",
            "training.schedules",
        ],
    ),
    "Metrics": (
        "From images to features, to statistics, to numbers with an error.",
        [
            "metrics.metric",
            "metrics.measure",
            "metrics.features",
            "metrics.detector",
            "metrics.statistics",
            "metrics.frechet",
            "metrics.extrapolated",
            "metrics.spatial",
            "metrics.inception_score",
            "metrics.kernel",
            "metrics.kernel_functions",
            "metrics.cmmd",
            "metrics.precision_recall",
            "metrics.neighbours",
            "metrics.vendi",
            "metrics.authenticity",
            "metrics.uncertainty",
            "metrics.evaluation",
        ],
    ),
    "Evidence": (
        "Estimates, their errors, and whether a direction is seen.",
        [
            "skip.evidence.estimate",
            "skip.evidence.comparison",
            "skip.evidence.significance",
            "skip.evidence.best",
            "skip.evidence.claim",
        ],
    ),
    "Studies": (
        "What the paper looks at beside images.",
        [
            "skip.studies.norms",
            "skip.studies.gradient",
            "skip.studies.score_matching",
            "skip.studies.inversion",
            "skip.studies.wavelet",
            "skip.studies.inputs",
        ],
    ),
    "Search and fine-tuning": (
        "The best rho of a network, found with few images or trained.",
        [
            "skip.search.run",
            "skip.search.search",
            "skip.finetune.settings",
            "skip.finetune.objectives",
        ],
    ),
    "Training": (
        "Data sets, losses and the loop.",
        [
            "training.dataset",
            "training.latents",
            "training.augment",
            "training.loss",
            "training.run.config",
            "training.training_loop",
            "training.power_ema",
            "training.distillation.consistency",
            "training.distillation.diff_instruct",
            "training.autoencoder.train",
            "training.autoencoder.encode",
            "dnnlib.sinks.sink",
            "dnnlib.sinks.mirror",
        ],
    ),
}


def on_config(config: Any) -> Any:
    """Complete the navigation."""
    pages = [{title: _path(title)} for title in API]
    config.nav.insert(3, {"API": pages})
    if REPORT.exists():
        config.nav[2]["Results"].append({"As one interactive page": "report/index.html"})
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are not in docs/, and the files that documents link to."""
    for source, place in PAGES.items():
        files.append(File.generated(config, place, content=(ROOT / source).read_text()))
    for title, (about, modules) in API.items():
        parts = [f"# {title}", about, *(f"::: {name}" for name in modules)]
        files.append(File.generated(config, _path(title), content="\n\n".join(parts) + "\n"))
    if REPORT.exists():
        files.append(File.generated(config, "report/index.html", abs_src_path=str(REPORT)))

    for page in list(files.documentation_pages()):
        for target in LINK.findall(_outside_code(page.content_string)):
            there = posixpath.normpath(posixpath.join(_folder(page.src_uri), target))
            if _place(there) not in files.src_uris and (ROOT / there).is_file():
                files.append(File.generated(config, _place(there), abs_src_path=str(ROOT / there)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let the links of a document lead to where their targets are in the site."""
    source, here = _folder(page.file.src_uri), posixpath.dirname(page.file.src_uri)

    def moved(match: re.Match[str]) -> str:
        there = posixpath.normpath(posixpath.join(source, match[1]))
        return posixpath.relpath(_place(there), here or ".")

    parts = re.split(r"(^```.*?^```)", markdown, flags=re.DOTALL | re.MULTILINE)
    for number in range(0, len(parts), 2):  # code is between
        parts[number] = LINK.sub(moved, parts[number])
    return "".join(parts)


def _path(title: str) -> str:
    return f"api/{title.lower().replace(' ', '-')}.md"


def _place(path: str) -> str:
    """Where a file of the repository stands in the site."""
    return PAGES.get(path, path.removeprefix("docs/"))


def _folder(page: str) -> str:
    """The folder of the repository that the links of a page count from."""
    for source, place in PAGES.items():
        if place == page:
            return posixpath.dirname(source)
    return posixpath.join("docs", posixpath.dirname(page))


def _outside_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


class Words(Extension):
    """Docstrings are plain text with formulas, in sections without air: as a page needs them."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Part the sections, keep names that share a line together, and escape what would be a tag of HTML."""
        if obj.docstring is None:
            return

        text = SECTION.sub("\n\n", obj.docstring.value)
        text = NAMES.sub(lambda names: names[0].replace(", ", ",\N{NO-BREAK SPACE}"), text)
        parts = text.split("`")
        parts[::2] = [re.sub(r"<(?=[a-zA-Z/])", "&lt;", part) for part in parts[::2]]
        first, *others = "`".join(parts).split("\n\n")
        obj.docstring.value = "\n\n".join([first, *map(_formula_as_code, others)])


def _formula_as_code(paragraph: str) -> str:
    """A paragraph of formulas, as code: line by line. It has one in each line, and begins with no sentence's word."""
    equal = all(re.search(r"\s(=|<-)\s", line) for line in paragraph.splitlines())
    return (
        indent(paragraph, "    ")
        if equal and re.match(r"(?![A-Z][a-z]|\s)", paragraph)
        else paragraph
    )
