"""`kb flag` as the operator uses it."""

from __future__ import annotations

from kb_pipeline_tests.kb import Kb
from kb_pipeline_tests.site import Site


def test_flags_are_set_rolled_out_listed_and_cleared(kb: Kb, site: Site) -> None:
    kb.apply(site)
    done = kb("flag", "set", "clean-focus", "recall", "--kb", "acme/docs", "--json")
    assert (done.status, done.json["overrides"]) == (0, {"acme/docs": "recall"})
    assert kb("flag", "rollout", "chunk-join-sections", "off=100", "--json").json["rollout"] == {"off": 100.0}
    assert kb("flag", "list", "--kb", "acme/docs", "--json").json == [
        {"flag": "chunk-join-sections", "variant": "off", "value": False, "reason": "SPLIT", "set_for": "rollout"},
        {"flag": "clean-focus", "variant": "recall", "value": "recall", "reason": "TARGETING_MATCH", "set_for": "kb"},
    ]
    listed = kb("flag", "list").out.splitlines()
    assert "rollout    off=100%" in listed
    assert "overrides  acme/docs=recall" in listed
    assert kb("flag", "clear", "clean-focus", "--kb", "acme/docs", "--json").json["overrides"] == {}
    actions = [entry["action"] for entry in kb("audit", "list", "acme", "--json").lines]
    assert actions[-2:] == ["flag.set", "flag.clear"]


def test_mistakes_are_wrong_usage_and_say_what_is_allowed(kb: Kb) -> None:
    for arguments, said in (
        (("set", "clean-focsu", "recall"), "there are clean-focus, chunk-join-sections"),
        (("set", "clean-focus", "recall", "--tenant", "acme", "--kb", "acme/docs"), "not both"),
        (("rollout", "clean-focus", "recall"), "is no VARIANT=PERCENT"),
    ):
        done = kb("flag", *arguments)
        assert (done.status, said in done.err) == (2, True), done.err
