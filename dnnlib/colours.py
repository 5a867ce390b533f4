"""The colours of plots and pages, stated once: matplotlib, the report's script and every style sheet read them here."""

# Okabe and Ito, 2008: seven colours that the colour-blind can tell apart; yellow is left out, too pale on white.
CURVES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# In gray print a curve is known by its marks and its dashes. With eight marks and
# four kinds of dashes no look comes back before the 57th curve.
MARKS = ("circle", "square", "diamond", "up", "down", "plus", "star", "left")
DASHES: tuple[tuple[float, ...], ...] = ((), (6.0, 2.0), (1.5, 1.5), (6.0, 2.0, 1.5, 2.0))  # points

# Of pages, by the name of the style sheets' variable; text has a contrast of at least 4.5 on every ground it stands on.
LIGHT = {
    "page": "#ffffff",
    "card": "#f6f7f9",
    "text": "#1b1f24",
    "soft": "#4b5563",
    "line": "#d0d5dd",
    "link": "#0b57a4",
    "seen": "#14602f",
    "seen-back": "#dff3e4",
    "not": "#8f1d14",
    "not-back": "#fde4e1",
    "open": "#6b4700",
    "open-back": "#fdefc8",
    "none": "#3d4752",
    "none-back": "#e6e9ee",
}
DARK = {
    "page": "#14171b",
    "card": "#1d2127",
    "text": "#e8eaed",
    "soft": "#b3bac4",
    "line": "#3a414b",
    "link": "#8cc2ff",
    "seen": "#a6e3b8",
    "seen-back": "#173d25",
    "not": "#ffb4aa",
    "not-back": "#4a1a15",
    "open": "#f6d58a",
    "open-back": "#453209",
    "none": "#cfd5dd",
    "none-back": "#343b45",
}


def style_sheet() -> str:
    """CSS that gives a page its colours as variables of these names, by light and by dark."""
    return (
        f":root {{ color-scheme: light dark; {_variables(LIGHT)} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {_variables(DARK)} }} }}\n"
    )


def _variables(colours: dict[str, str]) -> str:
    return " ".join(f"--{name}: {colour};" for name, colour in colours.items())
