"""Files to values and back: images, tables, data-set layouts."""
