"""Synthetic chest CTs with known nodules: sample data, test data and benchmark input.

This is the public door of the phantom; the parts are in the modules
``phantom_*``. Nothing here is a picture of a person.
"""

from napari_alnct.data.phantom_scan import PhantomScan, make_phantom
from napari_alnct.data.phantom_settings import PhantomSettings, small_settings

__all__ = ["PhantomScan", "PhantomSettings", "make_phantom", "small_settings"]
