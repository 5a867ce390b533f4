"""What methods on the long skips are called, and where each is: quick to import, as torch is not.

A place is MODULE:NAME, of a module of this folder.
"""

# Skip-Tuning itself is skip.scale.SkipScale, beside which these act.
METHODS = {
    "freeu": "freeu:FreeU",
    "freeu2": "freeu:FreeU2",
    "scalelong": "scalelong:ScaleLong",
}
