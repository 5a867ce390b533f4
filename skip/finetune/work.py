"""What python -m skip.finetune does."""

import json
from pathlib import Path
from typing import Any

import click

from dnnlib.files import check_writable
from skip.finetune.flags import RhoFlags, RunFlags, SubjectFlags, WeightFlags
from skip.finetune.objectives import FittedRho, tune_network, tune_rho
from skip.finetune.settings import FineTuning, as_json
from skip.options import warn_beyond
from skip.scale_file import save_scale
from torch_utils import distributed


def rho(subject: SubjectFlags, run: RunFlags, coefficients: RhoFlags) -> None:
    """What `python -m skip.finetune rho` does."""
    device = run.device.init()
    settings, out = _settings(subject, run, coefficients.lr), Path(coefficients.dest)
    check_writable(out, "--dest", "", ".json")
    start = coefficients.rho_start
    warn_beyond([] if start is None else [start])

    state = out.with_name(f"{out.name}.state")
    if out.exists() and not state.exists():
        raise ValueError(
            f"{out} is there, but no {state.name} beside it to go on from, and a new run would write over it; name "
            "another --dest, or move it away"
        )

    fitted = tune_rho(
        settings, run.duration_images, state, device, coefficients.bounded, start, run.batch_gpu
    )
    if distributed.rank() == 0:
        about = {"bounded": coefficients.bounded, "images": run.duration_images}
        save_scale(out, fitted.scale, None, **as_json(settings), **about)
        click.echo(json.dumps(_found(fitted) | about | {"out": str(out)}))
    distributed.shutdown()


def network(subject: SubjectFlags, run: RunFlags, weights: WeightFlags) -> None:
    """What `python -m skip.finetune network` does."""
    device = run.device.init()
    paths = tune_network(
        _settings(subject, run, weights.lr),
        run.duration_images,
        weights.every or run.duration_images,
        Path(weights.outdir),
        device,
        weights.factor,
        weights.ema_images,
        run.batch_gpu,
    )
    if distributed.rank() == 0:
        snapshots = [str(path) for path in paths]
        click.echo(json.dumps({"images": run.duration_images, "snapshots": snapshots}))
    distributed.shutdown()


def _found(fitted: FittedRho) -> dict[str, Any]:
    """The coefficients, and what became of the loss, as JSON."""
    rho, quarters = fitted.path[-1], fitted.losses.chunk(4)
    return {
        "rho": rho.tolist(),
        "mean": float(rho.mean()),
        "min": float(rho.min()),
        "max": float(rho.max()),
        "loss_first_quarter": float(quarters[0].mean()),
        "loss_last_quarter": float(quarters[-1].mean()),
    }


def _settings(subject: SubjectFlags, run: RunFlags, lr: float) -> FineTuning:
    return FineTuning(
        subject.network,
        subject.data,
        subject.detector,
        run.batch,
        lr,
        run.seed,
        subject.weighting,
        run.dtype,
    )
