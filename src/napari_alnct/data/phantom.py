"""Synthetic chest CTs with known nodules: sample data, test data and benchmark input.

This is the public door of the phantom; the parts are in the modules
``phantom_*``. Nothing here is a picture of a person.
"""

from napari_alnct.data.phantom_dataset import ScanTruth, WriteImage, plan_dataset, write_phantom_dataset
from napari_alnct.data.phantom_scan import PhantomScan, make_phantom
from napari_alnct.data.phantom_settings import PhantomSettings, small_settings

__all__ = [
    "PhantomScan",
    "PhantomSettings",
    "ScanTruth",
    "WriteImage",
    "make_phantom",
    "plan_dataset",
    "small_settings",
    "write_phantom_dataset",
]
