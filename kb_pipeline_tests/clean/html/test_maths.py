"""Formulas are in the text once, as TeX, however a page renders them."""

from __future__ import annotations

import pytest

from kb_pipeline_tests.clean.pages import markdown

_MATHML = "<msup><mi>c</mi><mn>2</mn></msup>"


def formula(body: str) -> str:
    return markdown(f"<div class=markdown-body><p>Here {body} holds.</p></div>").strip()


@pytest.mark.parametrize(
    "rendered",
    [
        f'<span class="katex"><span class="katex-mathml"><math><semantics><mrow>{_MATHML}</mrow>'
        '<annotation encoding="application/x-tex">mc^2</annotation></semantics></math></span>'
        '<span class="katex-html" aria-hidden="true"><span>mc</span><span>2</span></span></span>',
        '<span class="MathJax_Preview">mc2</span><span class="MathJax" id="MathJax-Element-1-Frame"><nobr>mc2</nobr>'
        f'<span class="MJX_Assistive_MathML"><math>{_MATHML}</math></span></span><script type="math/tex">mc^2</script>',
        '<span class="mwe-math-element"><span class="mwe-math-mathml-inline" style="display:none">'
        f'<math alttext="{{\\displaystyle mc^2}}">{_MATHML}</math></span>'
        '<img class="mwe-math-fallback-image-inline" src="/m.svg" alt="{\\displaystyle mc^2}"></span>',
        '<img class="latex" src="/f/1.png" alt="mc^2">',
        '<img src="https://latex.codecogs.com/svg.latex?mc%5E2">',
        '<span class="math notranslate nohighlight">\\(mc^2\\)</span>',
        '<mjx-container><mjx-math data-latex="mc^2"><mjx-mi></mjx-mi></mjx-math></mjx-container>',
    ],
    ids=["katex", "mathjax2", "mediawiki", "image", "codecogs", "sphinx", "mathjax4"],
)
def test_rendered_formula_is_its_tex_once(rendered: str) -> None:
    assert formula(rendered) == "Here $mc^2$ holds."


@pytest.mark.parametrize(
    ("mathml", "tex"),
    [
        ("<mfrac><mrow><mn>3</mn><msup><mi>x</mi><mn>2</mn></msup></mrow><mn>14</mn></mfrac>", r"\frac{3x^{2}}{14}"),
        ("<msqrt><mn>7</mn></msqrt><mroot><mi>x</mi><mn>3</mn></mroot>", r"\sqrt{7}\sqrt[3]{x}"),
        ("<msub><mi>y</mi><mi>i</mi></msub><mo>≤</mo><mi>α</mi>", r"y_{i} \le \alpha"),
        ("<munderover><mo>∑</mo><mi>i</mi><mi>n</mi></munderover><mi>i</mi>", r"\sum_{i}^{n}i"),
        ("<mi>sin</mi><mo>&ApplyFunction;</mo><mi>x</mi><mo>−</mo><mn>1</mn>", r"\sin x - 1"),
        ("<mfenced><mi>a</mi><mi>b</mi></mfenced><mover><mi>v</mi><mo>→</mo></mover>", r"(a, b)\vec{v}"),
        ("<msup><mrow><mi>a</mi><mo>+</mo><mn>1</mn></mrow><mn>2</mn></msup>", "{a + 1}^{2}"),
        (
            "<mo>(</mo><mtable><mtr><mtd><mn>1</mn></mtd><mtd><mn>2</mn></mtd></mtr><mtr><mtd><mn>3</mn></mtd>"
            "<mtd><mn>4</mn></mtd></mtr></mtable><mo>)</mo>",
            r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}",
        ),
        (
            "<mmultiscripts><mi>C</mi><mprescripts/><mn>6</mn><mn>14</mn></mmultiscripts><mtext>at 5%</mtext>",
            r"{}_{6}^{14}C\text{at 5\%}",
        ),
    ],
)
def test_mathml_is_written_as_tex(mathml: str, tex: str) -> None:
    assert formula(f"<math>{mathml}</math>") == f"Here ${tex}$ holds."


def test_displayed_formula_has_its_own_line() -> None:
    assert formula("<math display=block><mi>x</mi></math>") == "Here\n$$x$$\nholds."


def test_formula_cannot_become_a_link_or_an_element() -> None:
    page = '<span class="math">\\(a[1](javascript:alert) &lt;script>`\\)</span>'
    assert formula(page) == "Here $a[1] (javascript:alert) < script>'$ holds."


def test_hostile_nesting_of_mathml_keeps_its_text() -> None:
    assert "7" in formula("<math>" + "<mrow>" * 1500 + "<mn>7</mn>" + "</mrow>" * 1500 + "</math>")


def test_tex_in_running_text_stays() -> None:
    assert formula("$a_i * b_i$") == "Here $a_i * b_i$ holds."
