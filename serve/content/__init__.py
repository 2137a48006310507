"""Content of items as numbers: texts as they are put, media by a hook in a process of its own."""
