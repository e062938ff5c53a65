"""Making of packs (`ranger21.data.pack`) from folders and from downloads."""
