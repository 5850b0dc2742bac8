"""Who wrote the papers that files of the registry declare, and what they are called.

A file says which papers belong to it by `PAPERS`, arXiv ids; authors and titles stand here once, as
they stand in what was read. What is not known is left out: the id alone can be cited.
"""

from __future__ import annotations

from typing import NamedTuple


class Paper(NamedTuple):
    """Authors as BibTeX writes them ("Zou and others"), and the title; "" where it is not known."""

    authors: str = ""
    title: str = ""


# In BibTeX an author that is no person stands in braces of its own.
LIBRARY = Paper(
    "{jaxsafety contributors}",
    "jaxsafety: Safety alignment of chat models in JAX, measured end to end",
)

KNOWN = {
    "1605.07723": Paper("Ratner and others", "Data programming"),
    "1612.00796": Paper("Kirkpatrick and others"),
    "1703.01780": Paper("Tarvainen and Valpola"),
    "1802.01483": Paper("Li and Grandvalet and Davoine"),
    "1803.05457": Paper("Clark and others"),
    "1809.02789": Paper("Mihaylov and others"),
    "1811.00937": Paper("Talmor and others"),
    "1905.07830": Paper("Zellers and others"),
    "1905.10044": Paper("Clark and others"),
    "1907.10641": Paper("Sakaguchi and others"),
    "1911.11641": Paper("Bisk and others"),
    "2009.03300": Paper("Hendrycks and others"),
    "2109.01903": Paper("Wortsman and others"),
    "2109.07958": Paper("Lin and others"),
    "2110.14168": Paper("Cobbe and others"),
    "2212.04089": Paper("Ilharco and others"),
    "2305.18290": Paper("Rafailov and others"),
    "2307.15043": Paper(
        "Zou and others",
        "Universal and transferable adversarial attacks on aligned language models",
    ),
    "2308.01263": Paper(r"R{\"o}ttger and others"),
    "2308.13387": Paper("Wang and others"),
    "2309.07875": Paper("Bianchi and others", "Safety-Tuned LLaMAs"),
    "2310.03708": Paper("Zhou and others"),
    "2311.03099": Paper("Yu and others"),
    "2311.08370": Paper("Vidgen and others"),
    "2312.06674": Paper("Inan and others"),
    "2402.01109": Paper("Huang and Hu and Liu"),
    "2402.04249": Paper("Mazeika and others"),
    "2402.07148": Paper("Buehler and Buehler"),
    "2402.10260": Paper("Souly and others"),
    "2402.11746": Paper("Bhardwaj and Do and Poria"),
    "2402.18540": Paper("Lyu and others", "Keeping LLMs Aligned After Fine-tuning"),
    "2404.01318": Paper("Chao and others"),
    "2405.11157": Paper("Ostapenko and others"),
    "2405.16833": Paper("Hsu and others"),
    "2405.18641": Paper("Huang and others"),
    "2405.20947": Paper("Cui and others"),
    "2406.04313": Paper("Zou and others"),
    "2406.05946": Paper("Qi and others"),
    "2406.11717": Paper(
        "Arditi and others", "Refusal in language models is mediated by a single direction"
    ),
    "2406.14598": Paper("Xie and others"),
    "2406.18495": Paper("Han and others"),
    "2407.21772": Paper("Zeng and others"),
    "2407.21783": Paper("Dubey and others"),
    "2409.01586": Paper("Huang and others"),
    "2502.16982": Paper(),
    "2509.06795": Paper(),
    "2510.14276": Paper("Zhao and others"),
    "2603.07017": Paper(
        "Saha and Halder and Mondal and Panda",
        "Can Safety Emerge from Weak Supervision? A Systematic Analysis of Small Language Models",
    ),
    "2605.15239": Paper(),
    "2606.00686": Paper(
        "Hashemzadeh and Huang and Kim and Cote and Chandar",
        "Dialectics of Alignment: Harnessing Unsafe Knowledge for Dynamic Safety Routing",
    ),
    "2606.02530": Paper(),
    "2606.03648": Paper(
        "Vishnubhotla and Dawkins and Nejadgholi and Kiritchenko",
        "Safety Measurements for Fine-tuned LLMs Should be Grounded in Capability",
    ),
}
