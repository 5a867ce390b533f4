"""diffusers: Skip-Tuning inside its models (`apply`), and our networks inside a pipeline of its kind (pipeline.py).

`apply` and what it needs know diffusers' classes by name and import nothing of it; pipeline.py needs it.
"""

from skip.diffusers.apply import Applied, apply, remove
from skip.diffusers.schedulers import sigma_from_scheduler

__all__ = ["Applied", "apply", "remove", "sigma_from_scheduler"]
