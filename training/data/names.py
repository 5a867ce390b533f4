"""What can be chosen as a data set is made: quick to import, as numpy and Pillow are not."""

SPLITS = ("train", "test")
LABEL_SOURCES = ("auto", "folders", "none")
# MODULE:NAME, of a module of this folder.
TRANSFORMS = {
    "center-crop": "image_recipe:center_crop",
    "center-crop-wide": "image_recipe:center_crop_wide",
    "center-crop-letterbox": "image_recipe:center_crop_letterbox",
    "center-crop-dhariwal": "image_recipe:center_crop_dhariwal",
}
