"""What the command line says of pages that are no documents: sums, the list behind them, and what would help."""

from __future__ import annotations

import json

from kb_pipeline_tests.published import Published


def test_what_is_missing_is_counted_listed_and_said_until_it_is_there(published: Published) -> None:
    kb, site = published.kb, published.site
    links = ("/apples", "/pears", "/plums", "/quinces", "/gone", "/\x1b[31mred")
    site.put("/", "Orchard", "The handbook of our orchard: how fruit is picked and stored.", links)
    site.put("/quinces", "Quinces", "Quinces are too hard to be eaten raw.", ("/deep",))
    site.put("/deep", "Deep", "A page two links from the first one.")
    spec = json.loads((kb.folder / "docs.yaml").read_text())
    spec["sources"][0]["max_depth"] = 1
    (kb.folder / "docs.yaml").write_text(json.dumps(spec))
    assert kb("apply", "docs.yaml").status == 0
    built = kb.build()
    assert built.json["status"] == "ready_with_warnings"
    assert "1 page and what lies behind it are left out (too_deep): raise max_depth" in " ".join(built.err.split())
    account = built.json["stages"]["clean"]["account"]
    assert (account["known"], account["documents"], account["site"], account["limits"]) == (8, 5, 2, 1)

    rows = kb("documents", "acme/docs", "--left-out", "--json").lines
    assert [(row["reason"], row["category"]) for row in rows] == [
        ("not_found", "site"), ("not_found", "site"), ("too_deep", "limits"),
    ]  # fmt: skip
    assert rows[2]["key"] == f"{site.url}/deep"
    (deep,) = kb("documents", "acme/docs", "--reason", "too_deep", "--json").lines
    assert deep == rows[2]
    told = kb("documents", "acme/docs", "--left-out").out
    beyond = "more links away from a start URL than max_depth"
    assert f"{site.url}/deep\tsite\ttoo_deep\tlimits\t{beyond}\traise max_depth" in told.splitlines()
    assert "\x1b[31m" not in told
    assert kb("documents", "acme/docs", "--left-out", "--limit", "1", "--columns", "reason").out == "not_found\n"
    refused = kb("documents", "acme/docs", "--left-out", "--reason", "toodeep")
    assert (refused.status, "'toodeep' is no reason code" in refused.err) == (2, True)

    why = kb("explain", "acme/docs", f"{site.url}/deep?utm_source=x").out.splitlines()
    assert why[0] == f"{site.url}/deep in source site"
    assert "  verdict      left out (too_deep): more links away from a start URL than max_depth" in why
    assert "  to have it   raise max_depth" in why
    assert "  dropped      utm_source=x" in why
    assert why[why.index(f"  met by       {site.url}/") + 1] == f"               {site.url}/quinces"
    assert any(
        "max_depth   no   it is 2 links away from a start URL, more than 1   [max_depth: 1]" in line for line in why
    ), why
    never = kb("explain", "acme/docs", f"{site.url}/cherries", "--json").json["sources"][0]
    assert (never["is_known"], never["last"], never["verdict"][:9]) == (False, None, "never met")
    assert kb("explain", "acme/docs", "mailto:a@b.example").status == 2

    again = kb.build()
    assert again.json["status"] == "unchanged"
    assert again.json["message"] == built.json["message"]
    status = kb("status", "acme/docs", "--json").json
    assert status["account"] == account
    lines = kb("status", "acme/docs").out
    assert "known\t8 keys: 5 documents" in lines
    assert "by the site\t2 (not_found 2)" in lines
    assert "by limits\t1 (too_deep 1)" in lines
    assert "raise max_depth" in lines
