"""What files of images are called, and can be: quick to import, as numpy is not."""

RECORD, SHEET = "run.json", "grid.png"
# Many images in one file -> what writes it: MODULE:NAME, of a module of this folder.
ARCHIVES = {"zip": "archives:write_zip", "npz": "archives:write_npz"}
FORMATS = ("png", *ARCHIVES)

ROW = 640  # pixels that a row of small images is enlarged to, or nearly
MOST_ZOOM = 64
