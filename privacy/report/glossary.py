"""The page's technical words, each explained once for a reader who is no mathematician."""

GLOSSARY: tuple[tuple[str, str, str], ...] = (
    (
        "unit",
        "Unit",
        "What is protected as a whole: a record (one image, one heartbeat), a patient with all "
        "records, a task (one small training problem) or a whole hospital.",
    ),
    (
        "guess",
        "Best guess",
        "How often, at best, somebody is right who has to say whether a unit took part. This "
        "somebody sees everything that left, knows all other records and the unit itself, and "
        "starts at even odds. A coin is right 50 % of the time.",
    ),
    (
        "advantage",
        "Advantage",
        "The same on another scale: how many more percent of those who took part are named than "
        "of those who did not. 0 % is a coin, 100 % is certain.",
    ),
    (
        "epsilon",
        "Epsilon",
        "The privacy loss. It bounds how much more likely any outcome is made by a unit's "
        "taking part: at most by the factor e to the power of epsilon. 0 is perfect; up to 1 is "
        "strong, up to 10 is called reasonable, more says little; unlimited is no promise.",
    ),
    (
        "delta",
        "Delta",
        "A small probability with which the bound by epsilon may fail. It should be far below "
        "one over the number of units.",
    ),
    (
        "mu",
        "mu",
        "The privacy loss in one number without a delta (Gaussian differential privacy): telling "
        "the two runs apart is as hard as telling two bell curves apart whose centres are mu "
        "standard deviations from each other.",
    ),
    (
        "budget",
        "Budget",
        "The most epsilon that any one unit may ever spend, set by the hospital. When it is "
        "spent, the hospital refuses. What is left is how far epsilon may still rise.",
    ),
    (
        "ledger",
        "Ledger",
        "The hospital's own list of every charge, kept across runs and never shortened.",
    ),
    (
        "hash",
        "Hash",
        "A fingerprint of a text: another text has another one. The last entry's hash stands for "
        "the whole ledger.",
    ),
    (
        "mark",
        "Server's mark",
        "The server remembers the last entry that it was told of. A ledger that no longer holds "
        "it went back: entries were lost or taken away.",
    ),
    (
        "clip",
        "Clip norm",
        "The most that one unit may add to a sum. What is longer is shortened to it.",
    ),
    (
        "sigma",
        "Noise multiplier",
        "How strong the noise is: its standard deviation, measured in clip norms.",
    ),
    (
        "batch",
        "B",
        "The public number by which a noisy sum is divided to make a mean. It is fixed in "
        "advance, so that it tells nothing about who took part.",
    ),
    (
        "steps",
        "Inner step",
        "One small correction of the model on a hospital's records; each pays for its noise.",
    ),
    (
        "amplification",
        "Gain from sampling",
        "If units are drawn secretly and at random before each sum, less noise is enough. It may "
        "be claimed only where the draw is really made that way.",
    ),
    (
        "float",
        "Floating-point defence",
        "Computers round numbers, and the last digits of badly made noise can betray what lies "
        "under it.",
    ),
    (
        "filter",
        "Parameters may adapt",
        "Whether the account stays right when noise or rounds are chosen while the run goes on.",
    ),
    (
        "audit",
        "Audit",
        "An attack on the real mechanism by its owners. The loss it proves must lie below the "
        "one that is claimed; close below, the claim is also tight.",
    ),
)
