"""The loss of a model at one or several given weights at once, by torch.func and without changing the model."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, vmap

from ranger21.engine.batch_norm import batch_norms, gathering
from ranger21.landscape.directions import Layout


def whole_batches(count: int, size: int) -> tuple[int, int]:
    """Return how many of `count` images to use for batch statistics, and the batch size.

    Only full batches are used, of at least two images; if there is none, all images form one batch.
    """
    size = max(2, size)
    return count - count % size or count, size


class Loss:
    """The mean cross-entropy in nats over fixed images, as a function of the weights.

    One point is evaluated by a plain forward pass, several by one under vmap, which turns convolutions into grouped
    convolutions. Sums are in float64.

    Args:
        model: the model in evaluation mode, on its device. Its own weights are not used.
        layout: the layout of the weights.
        batches: inputs (n, channels, height, width) and labels (n,).
        statistics: batches of inputs for computing the running statistics at every point, with only the batch norms
            in training mode; if empty, the running statistics of `model` are used at every point.
        label_smoothing: the label smoothing of the cross-entropy.
    """

    def __init__(
        self,
        model: nn.Module,
        layout: Layout,
        batches: Sequence[tuple[Tensor, Tensor]],
        statistics: Sequence[Tensor],
        label_smoothing: float,
    ) -> None:
        self.model, self.layout, self.batches, self.label_smoothing = model, layout, batches, label_smoothing
        self.norms = batch_norms(model)
        self.statistics = statistics if self.norms else []
        self.images, self.bn_images = sum(len(labels) for _, labels in batches), sum(map(len, self.statistics))

    @torch.no_grad()
    def __call__(self, points: Tensor) -> Tensor:
        """Return the losses (k,) in float64 at the weights (k, size)."""
        many = len(points) > 1
        kind = self.batches[0][0].dtype
        weights = self.layout.split((points if many else points[0]).to(kind))
        buffers, axes = self._buffers(len(points))
        forward = vmap(self._forward, in_dims=(0, axes, None)) if many else self._forward
        with gathering(list(self.norms.values())):
            for images in self.statistics:
                forward(weights, buffers, images)
        total = torch.zeros(len(points), dtype=points.dtype, device=points.device)
        for images, labels in self.batches:
            logits = forward(weights, buffers, images)
            rows, smoothing = logits.reshape(-1, logits.shape[-1]), self.label_smoothing
            losses = F.cross_entropy(rows, labels.repeat(len(points)), reduction="none", label_smoothing=smoothing)
            total += losses.to(total.dtype).view(len(points), -1).sum(1)
        return total / self.images

    def _forward(self, weights: dict[str, Tensor], buffers: dict[str, Tensor], images: Tensor) -> Tensor:
        return functional_call(self.model, (weights, buffers), (images,))

    def _buffers(self, points: int) -> tuple[dict[str, Tensor], dict[str, int | None]]:
        """Return buffers for several points, and vmap's axis for each one: 0 if it differs between points, else None.

        Running statistics start at zero. The count of batches is shared, because all points use the same batches.
        """
        buffers, axes = dict(self.model.named_buffers()), dict[str, int | None]()
        for name in self.norms if self.statistics else ():
            for kind in ("running_mean", "running_var", "num_batches_tracked"):
                key = f"{name}.{kind}" if name else kind
                own = points > 1 and kind != "num_batches_tracked"
                shape = (points, *buffers[key].shape) if own else buffers[key].shape
                buffers[key] = buffers[key].new_zeros(shape)
                axes[key] = 0 if own else None
        return buffers, {key: axes.get(key) for key in buffers}
