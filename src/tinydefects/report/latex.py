"""What pdflatex takes as it is, whatever the names in it: text, quoted numbers, references, and a document of all.

Tables need booktabs and nothing else. Names come from command lines and folders, so each sign that LaTeX would take for
its own is written out, and one that its fonts lack is named by its number.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from itertools import groupby
from pathlib import Path

from tinydefects.results.published import PublishedNumber, in_order

SIGNS = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{sign: f"{{{sign}}}" for sign in "[]*"},  # the end of a row would take them for its own options
    **{"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--", "—": "---", "…": r"\ldots{}"},
    **{"±": r"$\pm$", "×": r"$\times$", "÷": r"$\div$", "≤": r"$\leq$", "≥": r"$\geq$", "−": "$-$", "→": r"$\to$"},
    **{"°": r"$^\circ$", "²": "$^2$", "³": "$^3$", "·": r"$\cdot$", "\N{NO-BREAK SPACE}": "~"},
    **{"µ": r"$\mu$", "μ": r"$\mu$", "ρ": r"$\rho$", "τ": r"$\tau$", "σ": r"$\sigma$", "α": r"$\alpha$"},
    **{"β": r"$\beta$", "γ": r"$\gamma$", "λ": r"$\lambda$", "ε": r"$\varepsilon$", "Δ": r"$\Delta$"},
}
IN_THE_FONTS = re.compile("[ -~À-ÖØ-öø-ÿĂăĄąĆćČčĎďĘęĚěĞğŁłŃńŇňŐőŔŕŘřŚśŞşŠšŤťŮůŰűŹźŻżŽž]")
SOFTWARE = """@misc{{tinydefects,
  author = {{{{The tinydefects authors}}}},
  title = {{{{tinydefects}}: finding defects a few pixels wide, and measuring how small one can go}},
  howpublished = {{\\url{{https://github.com/tinydefects/tinydefects}}}},
  note = {{Version {version}}}
}}
"""
FBFT = """
@article{costanzino2024fbft,
  author = {Costanzino, Alex and Zama Ramirez, Pierluigi and Lisanti, Giuseppe and Di Stefano, Luigi},
  title = {Looking for Tiny Defects via Forward-Backward Feature Transfer},
  journal = {arXiv preprint arXiv:2407.04092},
  year = {2024}
}
"""
EXAMPLE = r"""% pdflatex example; bibtex example; pdflatex example; pdflatex example
\documentclass[twocolumn]{article} % without twocolumn it fits as well
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\IfFileExists{lmodern.sty}{\usepackage{lmodern}}{}
\usepackage{booktabs,graphicx,url}
\newsavebox{\wide} % a table as it is, or shrunk to the page
\newcommand{\fitted}[1]{\sbox{\wide}{\small\setlength{\tabcolsep}{4pt}\input{#1}}%
  \ifdim\wd\wide>\textwidth\resizebox{\textwidth}{!}{\usebox{\wide}}\else\usebox{\wide}\fi}
\newcommand{\shown}[1]{\includegraphics[width=\ifdim\columnwidth<85mm\columnwidth\else85mm\fi]{#1}}
\raggedbottom
\emergencystretch=3em
\begin{document}
\section*{Protocol}
\input{methods.tex}
"""
QUOTED = "Quoted from the named sources, not measured here; each has a rule of its own."


def in_latex(text: str) -> str:
    """Plain text with every sign that LaTeX would take for its own written out; what its fonts lack as `[U+4E2D]`."""
    apart = re.sub(r"-(?=-)", "-\0", unicodedata.normalize("NFC", text))  # two hyphens would become a dash
    apart = apart.replace(" %", "\N{NO-BREAK SPACE}%")
    return "".join("{}" if sign == "\0" else _sign(sign) for sign in apart)


def _sign(sign: str) -> str:
    if sign in SIGNS:
        return SIGNS[sign]
    if sign.isspace():
        return " "
    return sign if IN_THE_FONTS.fullmatch(sign) else f"{{[}}U+{ord(sign):04X}{{]}}"


def references(methods: Iterable[str]) -> tuple[str, str]:
    """BibTeX of what was used, and the keys to cite."""
    software = SOFTWARE.format(version=metadata.version("tinydefects"))
    if any(method.startswith("fbft") for method in methods):
        return software + FBFT, "tinydefects,costanzino2024fbft"
    return software, "tinydefects"


def published_latex(numbers: Sequence[PublishedNumber]) -> dict[str, str]:
    """A `tabular` for booktabs for each dataset; `published_notes_latex` has the notes of all."""
    return {
        dataset: _published_table(list(of_dataset), _notes_of(numbers))
        for dataset, of_dataset in groupby(in_order(numbers), lambda one: one.dataset)
    }


def _published_table(numbers: Sequence[PublishedNumber], notes: Mapping[str, int]) -> str:
    lines = [r"% \usepackage{booktabs}", f"% {QUOTED}", r"\begin{tabular}{lrllr}", r"\toprule"]
    lines.append(r"method & value & learns from & input & note \\")
    for metric, group in groupby(numbers, lambda one: one.metric):
        lines += [r"\midrule", f"\\multicolumn{{5}}{{l}}{{{in_latex(metric)}}} \\\\"]
        for one in group:
            cells = (one.method, f"{one.value:.3f}", one.learns_from, one.input, str(notes[_note(one)]))
            lines.append(" & ".join(map(in_latex, cells)) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def published_notes_latex(numbers: Sequence[PublishedNumber]) -> str:
    """A paragraph with the rule and the source behind each number of a note."""
    told = [f"({number})~{in_latex(note)}." for note, number in _notes_of(numbers).items()]
    return "\n".join([QUOTED, *told, ""])


def _notes_of(numbers: Sequence[PublishedNumber]) -> Mapping[str, int]:
    return {note: number for number, note in enumerate(dict.fromkeys(map(_note, in_order(numbers))), start=1)}


def _note(one: PublishedNumber) -> str:
    read_in = "" if one.read_in == "the source" else f", read in {one.read_in}"
    return f"{one.source}{read_in}: {one.rule}"


def example_document(captions: Mapping[str, str], figures: Iterable[Path], *, has_published: bool) -> str:
    """A document that shows every table under its caption, and every figure, once."""
    parts = [EXAMPLE]
    for name, caption in captions.items():
        parts.append(f"\\begin{{table*}}\\centering\\fitted{{{name}}}\\caption{{{in_latex(caption)}}}\\end{{table*}}")
    for path in figures:
        if path.suffix == ".pdf":
            caption = in_latex(path.stem)
            parts.append(f"\\begin{{figure}}\\centering\\shown{{{path.name}}}\\caption{{{caption}}}\\end{{figure}}")
    if has_published:
        parts.append(r"\section*{Quoted numbers}" + "\n" + r"{\footnotesize\input{published_notes.tex}\par}")
    return "\n".join([*parts, r"\bibliographystyle{plain}", r"\bibliography{references}", r"\end{document}", ""])
