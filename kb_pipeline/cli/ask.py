"""`kb ask`: the answer to a question, with the places that it is quoted from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kb_pipeline.cli.session import AsOf, JsonOption, KbArgument, open_kb, require_all_utf8

if TYPE_CHECKING:
    from kb_pipeline.answers.result import Answer, Citation


def ask(
    kb: KbArgument,
    question: Annotated[
        list[str],
        typer.Argument(metavar="QUESTION...", help="In quotes or not.", callback=require_all_utf8),
    ],
    mode: Annotated[
        Literal["extractive", "generate"],
        typer.Option(help="In the KB's own sentences, or in those of the model that its file names."),
    ] = "extractive",
    k: Annotated[int, typer.Option("-k", help="Passages to answer from, 1 to 20.")] = 5,
    language: Annotated[str | None, typer.Option(help="Only from documents in that language (ISO 639).")] = None,
    as_of: AsOf = None,
    as_json: JsonOption = False,
) -> None:
    """Answer a question, every sentence with the place that it is quoted from, or say that there is no answer."""
    from kb_pipeline.cli.output import print_json

    answer = open_kb(kb).answer(" ".join(question), mode=mode, k=k, language=language, as_of=as_of)
    if as_json:
        print_json(answer.as_json())
    else:
        _print_answer(answer)


def _print_answer(answer: Answer) -> None:
    from kb_pipeline.cli.terminal import err, printable

    if answer.verdict == "refused":
        err.print(
            f"{answer.kb}: version {answer.version} does not answer that (best sentence {answer.score:.3f}, wanted "
            f"{answer.threshold:.3f}); 'kb search' shows what is nearest",
            markup=False,
        )
        return
    cited: dict[int, Citation] = {}
    for sentence in answer.sentences:
        numbers = list(dict.fromkeys(citation.number for citation in sentence.citations))
        cited |= {citation.number: citation for citation in reversed(sentence.citations)}
        marks = "".join(f" [{number}]" for number in numbers) or " [unsupported]"
        typer.echo(printable(sentence.text) + marks)
    typer.echo()
    for number, citation in sorted(cited.items()):
        typer.echo(printable(f"[{number}] {citation.title}  {citation.key}"))
