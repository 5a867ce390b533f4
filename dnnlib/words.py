"""Words for the keys of settings and values: the one table that tables, sentences and pictures read."""

# Key, in lower case -> what people read, in captions, heads of columns and sentences.
WORDS = {
    "across": "across",
    "axis": "axis",
    "clip": "clip",
    "count": "images",
    "detector": "detector",
    "ending": "ending",
    "fid": "FID",
    "function": "function",
    "guidance": "guidance",
    "guidance_sigma": "guidance at sigma",
    "guide_rho": "rho of the guide",
    "index": "layer",
    "input": "input",
    "loss": "loss",
    "method": "method",
    "network": "network",
    "nfe": "NFE",
    "order": "order",
    "probe": "probe",
    "reference": "reference",
    "rho": "rho",
    "rho_bottom": "rho of the deepest layer",
    "rho_top": "rho of the last layer",
    "s_churn": "S_churn",
    "sampler": "sampler",
    "seeds": "seeds",
    "sigma": "sigma",
    "sigma_steps": "noise levels",
    "sigmas": "sigmas",
    "skip_method": "skip method",
    "steps": "steps",
    "target": "target",
    "thresholding": "thresholding",
    "time": "time",
    "time_range": "time range",
    "train_batch": "training batch",
    "train_detector": "training detector",
    "train_every": "measured every (images)",
    "train_factor": "loss factor",
    "train_images": "training images",
    "train_lr": "learning rate",
    "trained": "trained",
    "trajectory_steps": "trajectory steps",
    "variant": "variant",
    "wavelet": "wavelet",
    "weighting": "weighting",
    "window": "window",
    "window_top": "window up to",
}
# What an axis says more: its words in full, and its unit where it has one.
AXES = {
    "images_seen": "images seen (thousands)",
    "index": "decoder layer, deepest first",
    "loss": "training loss",
    "nfe": "network evaluations (NFE)",
    "s_churn": "noise added on the way, S_churn",
    "sigma": "noise level sigma (in units of the data)",
    "steps": "steps of the sampler",
    "window_top": "upper end of the window of noise levels, sigma (in units of the data)",
}


def written(key: str) -> str:
    """A key in words, in a caption or a sentence: "nfe" -> "NFE"."""
    return WORDS.get(key.lower(), key.replace("_", " "))


def on_axis(key: str) -> str:
    """A key in words, along an axis: "nfe" -> "network evaluations (NFE)"."""
    return AXES.get(key.lower()) or written(key)
