"""One rollout's world, as GRPOTrainer's `environment_factory` wants it: a sample, the sandbox, and what happened.

The trainer's mixin (grpo.py) runs whole batches through the agent loop and hands each environment its finished
trajectory; the tool method below is what TRL shows the model, and what TRL's own loop would call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from codevision_lite.agent import result_message
from codevision_lite.imaging import open_image
from codevision_lite.records import Sample, Trajectory


class PictureEnvironment:
    """Holds one sample at a time; TRL reuses instances from step to step."""

    def __init__(self, samples: Sequence[Sample], sandbox: Any):
        self._samples, self._sandbox = samples, sandbox
        self.sample: Sample | None = None
        self.trajectory: Trajectory | None = None  # set when the rollout is over
        self.images: list[Any] = []

    def reset(self, **row: Any) -> None:
        """Take up the sample of a dataset row, named by its `index`."""
        self.sample = self._samples[row["index"]]
        self.images = [open_image(self.sample.image)]
        self.trajectory = None

    def code_image_tool(self, code: str, description: str = "", image_index: int = 0) -> list[dict[str, Any]]:
        """Run Python on a picture.

        Args:
            code: The Python code; assign the new picture to `result`.
            description: What the code does.
            image_index: Which picture `image` is; 0 is the user's.

        Returns:
            What the model is shown: a line of text and, where the code made one, the new picture.
        """
        if not 0 <= image_index < len(self.images):
            return [{"type": "text", "text": f"There is no image {image_index}; image_index goes from 0 to {len(self.images) - 1}."}]
        run = self._sandbox.run(code, self.images, image_index)
        if run.status != "ok":
            return [{"type": "text", "text": run.message}]
        self.images.append(open_image(run.result))
        message = result_message(run, len(self.images) - 1)
        return [{"type": "text", "text": f"{message}\n"}, {"type": "image", "image": self.images[-1]}]
