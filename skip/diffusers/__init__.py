"""diffusers' models, schedulers and pipelines: Skip-Tuning inside them. Nothing here is of our own networks' making.

`apply` and what it needs know diffusers' classes by name and import nothing of it.
"""

from skip.diffusers.apply import Applied, apply, remove
from skip.diffusers.schedulers import sigma_from_scheduler

__all__ = ["Applied", "apply", "remove", "sigma_from_scheduler"]
