"""Readable names and slugs from the shouting, clipped descriptions of the product table."""

import re

# What the product table clips, and the word in full; only what occurs often or reads badly.
_CLIPPED = """
bg bags; bn bean; br bread; brd breaded; breakfst breakfast; brkfst breakfast; btl bottle;
btr butter; can canned; catfd cat food; chick chicken; chix chicken; chococlate chocolate;
ckys cookies; cleang cleaning; cnd canned; cndy candy; coco cocoa; conc concentrate; crbntd
carbonated; crkr crackers; crmd creamed; crystl crystal; disposible disposable; dnr dinner;
dnrs dinners; dogfd dog food; dps dips; drnk drink; drnking drinking; drnkng drinking; drnks
drinks; drsng dressing; dsh dishes; fd food; fem feminine; flvr flavored; flvrd flavored;
frsh fresh; frz frozen; frzn frozen; fs french style; gds goods; grnd ground; handke
handkerchiefs; hygn hygiene; iws wrapped sliced; jce juice; memorablilia memorabilia; mfg
maker; misc miscellaneous; mixs mixes; mlk milk; mlt multi; mneral mineral; mnrl mineral; mx
mix; mxs mixes; oj orange juice; pckgd packaged; pk pack; pkg package; pkgd packaged; pkld
pickled; pnch punch; pnt peanut; prep prepared; prpck prepacked; pwdr powder; pwdrs powders;
refrgratd refrigerated; refrig refrigerated; rts ready-to-serve; sald salad; sft soft; sgl
single; sherbts sherbets; sndwch sandwich; sngl single; snks snacks; specilaty specialty;
sply supplies; sprd spread; srv serve; ss single-serve; suppplies supplies; sv serve; sw
sweet; sweetners sweeteners; tiss tissue; trsh trash; vac vacuum; veg vegetable; whl whole;
whlsm wholesome; wtr water
"""
SPELT: dict[str, str] = {
    clipped.upper(): full.upper()
    for clipped, full in (pair.split(maxsplit=1) for pair in _CLIPPED.split(";"))
}
# Descriptions that the table cuts off after 30 characters in a way that no rule mends.
WHOLE: dict[str, str] = {
    "SOFT DRINKS 12/18&15PK CAN CAR": "SOFT DRINKS IN CANS",
    "SOFT DRINKS 20PK&24PK CAN CARB": "SOFT DRINKS IN CANS",
    "SFT DRNK 2 LITER BTL CARB INCL": "SOFT DRINK 2 LITER BOTTLE",
    "DAIRY CASE 100% PURE JUICE - O": "ORANGE JUICE",
    "MAINSTREAM WHEAT/MULTIGRAIN BR": "MAINSTREAM WHEAT/MULTIGRAIN BREAD",
    "NON-CRBNTD DRNKING/MNERAL WATE": "STILL WATER",
    "SGL SV/VEND MACH SNACKS CHIP/P": "SINGLE-SERVE SNACKS",
    "FRZN SS PREMIUM ENTREES/DNRS/N": "FROZEN PREMIUM ENTREES",
    "FRZN SS PREMIUM ENTREES/DNRS/T": "FROZEN PREMIUM ENTREES",
    "SS ECONOMY ENTREES/DINNERS ALL": "ECONOMY ENTREES",
    "VITAMIN - NON HERBAL SUPPLEMEN": "VITAMIN SUPPLEMENTS",
    "WAFFLES/PANCAKES/FRENCH TOAST": "WAFFLES/PANCAKES",
}
# Types that say nothing without their category ("Premium" of which thing?).
_VAGUE = """
angus blends choice economy enhanced fresh frozen lean mainstream miscellaneous multi natural
organic other patties premium primal regular seasoned select smoked super traditional value
"""
VAGUE = frozenset(_VAGUE.upper().split())
_WORD = re.compile(r"[A-Z']+")
_SMALL = {"And", "Of", "In", "On", "The", "With", "For", "Or"}


def spelt(text: str) -> str:
    """Return the description in capitals with its clipped words spelt out."""
    text = WHOLE.get(text, text).upper()
    text = re.sub(r"\(.*", "", text)  # remarks in brackets are cut off in mid-word
    text = re.sub(r"\s*&\s*", " & ", text)
    text = _WORD.sub(lambda match: SPELT.get(match[0], match[0]), text)
    return re.sub(r"\s+", " ", text).strip(" -./,&:")


def titled(text: str) -> str:
    """Return capitals as a title: `SOUP: CREAM OF` becomes `Cream of Soup`."""
    head, colon, tail = spelt(text).partition(":")
    words = (f"{tail} {head}" if colon else head).split()
    cased = [_WORD.sub(lambda match: match[0].capitalize(), word) for word in words]
    return " ".join(w.lower() if i and w in _SMALL else w for i, w in enumerate(cased))


def named(product_type: str, category: str, size: str) -> str:
    """Return a product's readable name, e.g. `Condensed Soup, 10.75 oz`."""
    name = titled(product_type)
    if not name or name.upper() in VAGUE:
        name = f"{name} {titled(category)}".strip()
    size = re.sub(r"\s+", " ", size).strip().lower().lstrip("0")
    return f"{name}, {size}" if size else name


def slug(text: str) -> str:
    """Return a name as rules write it: `FRZN VEGETABLE/VEG DSH` becomes a hyphenated word."""
    return re.sub(r"[^a-z0-9]+", "-", spelt(text).lower()).strip("-")
