"""Read and write MetaImage volumes (`.mhd` + `.raw`/`.zraw`, `.mha`)."""

from napari_alnct.io.metaimage_writer import write_metaimage

__all__ = ["write_metaimage"]
