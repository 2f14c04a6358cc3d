"""Words of keys and values: RULER's keys and word values are adjective-noun pairs."""

import random
import zlib

ADJECTIVES = """able amber ample ancient angry autumn awake bare basic bitter blank blind bold brave
brief bright brisk broad broken bronze busy calm careful cheap chief civil clean clear clever close
cloudy cold common cool copper cosy crimson crisp curious damp daring dark dear deep dense distant
double dry dull dusty eager early easy elder empty equal even exact faint fair faithful famous fancy
fast fierce final fine firm first flat fleet fond frank free fresh friendly frosty full gentle giant
glad golden good grand grave great green grey happy hard harsh heavy hidden high hollow honest huge
humble hungry idle inner iron jolly keen kind large late lazy lean light little lively local lonely
long loose lost loud low loyal lucky mad main major marble mellow merry mild modern modest muddy
narrow neat new nimble noble noisy northern odd old open orange outer pale patient plain pleasant
polite poor prime private proper proud public pure purple quick quiet rapid rare raw ready red rich
ripe rough round royal rusty sad safe salty scarlet secret shady shallow sharp short shy silent
silver simple single slender slim slow small smooth sober soft solid sour southern spare stable
steady steep stern stiff still stormy strange strict strong subtle sunny sweet swift tall tame tart
tender thick thin tidy tiny tired tough true vague vast warm wary weak western white whole wide wild
windy wise wooden worn yellow young zealous""".split()

NOUNS = """acorn anchor apple arrow badge badger barn barrel basin basket battle beacon beam bear
bell bench berry bird blade boat book boot bottle bowl box branch bread breeze brick bridge brook
broom bucket button cabin cable camel candle canyon carpet cart castle cave chain chair chapel
cherry chest circle city clock cloud coast coat coffee coin comet copper corner cottage cotton creek
crown cup curtain dawn deer desert desk dinner doctor dog door dragon dream drum eagle earth echo engine
falcon farm father feather fence fern ferry field finger fire fish flame flute forest fork fountain
fox frog garden gate giant glass glove goat grain grape grass guitar hall hammer harbor harvest hat
hawk heart hedge hill honey horn horse house island ivory jacket jar jewel journey judge jungle
kettle key king kitchen kite knife ladder lake lamp lantern leaf lemon letter library lion lizard
maple market mask meadow melon mill mirror monkey moon morning mountain mouse museum music needle
nest night oak oasis ocean olive orchard otter owl oyster palace paper parrot path pebble pencil
pepper piano picnic pigeon pillow pilot pine planet plate pond potato prairie prince prison puzzle
queen rabbit raven ribbon river road robin rock roof room rope rose saddle sailor salmon sand school
shadow sheep shell ship shoe silk skate smoke snail snow soldier song spear spider spoon spring star
stone storm stove stream street summer swan sword table tailor temple thunder tiger tower town train
tree trumpet tunnel turtle valley velvet village violin wagon wall walnut water wave whale wheat
wheel willow window winter wolf wood zebra""".split()


def pair_is_held_out(first: str, second: str) -> bool:
    """Whether `first`-`second` is kept for evaluation: one pair in 16, chosen by a checksum."""
    return zlib.crc32(f"{first}-{second}".encode()) % 16 == 0


def held_out_pair(rng: random.Random) -> str:
    """An adjective-noun pair that no training sequence uses as a key or as a value."""
    while True:
        first, second = rng.choice(ADJECTIVES), rng.choice(NOUNS)
        if pair_is_held_out(first, second):
            return f"{first}-{second}"


def number(rng: random.Random) -> str:
    """Seven digits, as in RULER."""
    return str(rng.randrange(1_000_000, 10_000_000))


def passkey(rng: random.Random) -> str:
    """1 to 50000, as in Landmark's passkey task."""
    return str(rng.randint(1, 50_000))


def uuid(rng: random.Random) -> str:
    """A version 4 UUID from the generator's bits."""
    bits = rng.getrandbits(128) & ~(0xF << 76) & ~(0x3 << 62) | (0x4 << 76) | (0x2 << 62)
    digits = f"{bits:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
