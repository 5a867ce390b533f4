"""The command skip-tuning, which is also `python -m skip_tuning`: one name for all programs."""

import difflib
import sys

from skip_tuning import part

COMMANDS = {  # what is typed -> its module, and what it does
    "demo": ("demo", "the bundled network, plain and Skip-Tuned, in one picture"),
    "explore": ("explore", "Skip-Tuning by sliders, in the browser"),
    "generate": ("generate", "images from a network, plain or Skip-Tuned"),
    "fid": ("fid", "FID and other metrics; statistics of real images"),
    "tables": ("tables", "the paper's tables and figures; the best rho of a network"),
    "train": ("train", "train a network"),
    "distill": ("distill", "train a one-step student"),
    "autoencoder": ("autoencoder", "train an autoencoder, make latents"),
    "dataset": ("dataset_tool", "make a data set from images"),
    "finetune": ("skip.finetune.__main__", "fine-tune rho, or a network with it"),
    "checkpoint": ("training.checkpoint", "list, show and convert networks"),
    "detector": (
        "metrics.demo_detector.__main__",
        "train a small feature network of your own images",
    ),
    "plot": ("training.plot", "the curve of a training"),
}


def main() -> None:
    """Run the program that the first argument names."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        width = max(map(len, COMMANDS)) + 2
        print(
            "Usage: skip-tuning COMMAND [OPTIONS]\n\nSkip-Tuning (arXiv 2402.15170) on EDM.\n\nCommands:"
        )
        print("\n".join(f"  {command:{width}}{what}" for command, (_, what) in COMMANDS.items()))
        print("\nEach has its own --help: skip-tuning generate --help")
        return
    if name == "--version":
        print(part("dnnlib.versions").versions())
        return
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(COMMANDS)}"
        sys.exit(_refused(f"skip-tuning has no command {ascii(name)[:60]}: {hint}"))

    program = f"skip-tuning {name}"
    sys.argv = [program, *arguments]
    part(COMMANDS[name][0]).main(prog_name=program)


def _refused(message: str) -> int:
    print(f"Error: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
