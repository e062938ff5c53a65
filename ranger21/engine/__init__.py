"""The training loop: tensors, steps and ranks, with no configuration, model architecture or dataset.

From `python train.py` to the optimizer's step:

1. `train.py`: `main` receives the composed configuration; `begin` validates it and names the run directory.
2. `ranger21/run/experiment.py`: `run` joins the ranks, prepares and opens the data, and takes the run directory.
3. `ranger21/run/run.py`: `Run` builds the parts and restores the newest checkpoint; `Run.go` opens the records.
4. `ranger21/engine/loop.py`: `train` alternates `take_step`, which ends in the optimizer's step, and
   `Boundary.cross` (`ranger21/engine/boundary.py`), which logs, validates, saves and stops between two steps.

`ranger21/engine/parts.py` has the three things that they share: `TrainSetup` is built once, `TrainState` is what a
checkpoint holds, and `Callbacks` is what the loop calls.

A batch: `data.loader.Loader` makes an `ImageBatch` of uint8 images in the order of `data.order.TrainBatches`;
`forward_backward` moves it to the device, `data.on_device.ToInput` augments and normalizes it, the model and the loss
follow, and `Meter` adds up the loss and the accuracy on the device until a boundary logs them.
"""
