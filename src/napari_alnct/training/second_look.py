"""Training the patch classifier on the first stage's own marks (`PatchPool`)."""

from __future__ import annotations

import torch
from torch import nn

from napari_alnct.core.network import ClassifierNetwork, DetectorNetwork
from napari_alnct.training.build_run import BuildRun, curves_of
from napari_alnct.training.loop import Trainer, make_loader
from napari_alnct.training.losses import classifier_loss
from napari_alnct.training.patch_pool import PatchPool, PoolPatches
from napari_alnct.training.settings import BuildSettings

TITLE = "second look"


def start_from_detector(classifier: ClassifierNetwork, detector: DetectorNetwork) -> bool:
    """Give the classifier the first stages of the detector's encoder to start from.

    Parameters
    ----------
    classifier : ClassifierNetwork
        Changed in place.
    detector : DetectorNetwork
        Trained first stage.

    Returns
    -------
    bool
        False, and nothing changed, when their stages differ in shape.
    """
    ours, theirs = classifier.encoder.state_dict(), detector.encoder.state_dict()
    if any(name not in theirs or theirs[name].shape != value.shape for name, value in ours.items()):
        return False
    classifier.encoder.load_state_dict({name: theirs[name] for name in ours})
    nn.init.zeros_(classifier.head.weight)
    return True


def train_second_look(
    pool: PatchPool, detector: DetectorNetwork, settings: BuildSettings, run: BuildRun
) -> ClassifierNetwork:
    """Give the trained classifier, continuing where an earlier run stopped.

    Parameters
    ----------
    pool : PatchPool
        Training patches.
    detector : DetectorNetwork
        First stage; its encoder is the start where the shapes agree.
    settings : BuildSettings
        The recipe.
    run : BuildRun
        Its folder gets ``second_look``: logs and resume points.

    Returns
    -------
    ClassifierNetwork
        Averaged weights, evaluation mode, CPU.

    Raises
    ------
    JobCancelled
        If the run says so; a resume point is saved first.
    """
    schedule = settings.second_look
    torch.manual_seed(schedule.seed)
    loss = classifier_loss(settings.crops.low_hu, settings.crops.high_hu)
    fresh = ClassifierNetwork(settings.classifier)
    if start_from_detector(fresh, detector):
        run.log(f"{TITLE}: starts from the encoder of the first stage")
    trainer = Trainer(fresh, schedule, loss, run.folder / "second_look", run.device)
    run.begin(TITLE, trainer)
    first = trainer.step * schedule.batch
    patches = PoolPatches(
        pool,
        settings.classifier.patch_vox,
        seed=schedule.seed,
        first=first,
        count=schedule.n_steps * schedule.batch - first,
    )
    if len(patches):
        with curves_of(trainer) as curves:
            run.finish(TITLE, trainer, make_loader(patches, schedule), curves)
    network = trainer.averaged(ClassifierNetwork(settings.classifier))
    assert isinstance(network, ClassifierNetwork)
    return network
