"""Builds the candidate of a refresh where no reader sees it, and records the verdict of its checks."""

from __future__ import annotations

from dataclasses import replace

from kb_pipeline.account import Account
from kb_pipeline.control.kbs import versions
from kb_pipeline.control.runs import refreshes
from kb_pipeline.embed.refresh import vectors_table
from kb_pipeline.errors import GateFailed
from kb_pipeline.failpoints import failpoint
from kb_pipeline.maintenance.garbage_collection import tidy_tables
from kb_pipeline.maintenance.repair import repair_heads, reset_heads
from kb_pipeline.model import ReportProgress
from kb_pipeline.operations.embedding import RunEmbedding
from kb_pipeline.operations.run_context import RunContext
from kb_pipeline.operations.stage_runner import StageRunner
from kb_pipeline.publish.candidate import Candidate, Recipe, build_candidate, pin_candidate
from kb_pipeline.publish.integrity_gates import failed_gates
from kb_pipeline.store.manifest import GateVerdict, Manifest


class CandidateBuilder:
    """Builds and judges the next version of one run's KB.

    Args:
        context: the run.
        runner: its stages.
        embedding: its models.
        recipe: the rules that the tables were made by, for the manifest.
        force: whether a failed check that is a matter of judgement warns instead of holding the version.
    """

    def __init__(
        self, context: RunContext, runner: StageRunner, embedding: RunEmbedding, recipe: Recipe, *, force: bool
    ) -> None:
        self._context, self._runner, self._embedding = context, runner, embedding
        self._recipe, self._force = recipe, force

    def build(self, progress: ReportProgress) -> Candidate:
        """Build the candidate and judge it; nothing of it is a version yet."""
        context = self._context
        live = context.live_manifest()
        tidy_tables(context.store, live)
        candidate = build_candidate(
            context.store,
            context.spec,
            self._embedding.model,
            vectors_table(context.store, self._embedding.model),
            live,
            self._embedding,
            self._recipe,
            context.run_id,
            progress,
            versions.rolled_back_manifests(context.db, context.key),
        )
        gates = (replace(gate, message=context.spec.redact(gate.message)) for gate in candidate.gates)
        return replace(candidate, gates=tuple(gates))  # redacted because their messages name pages

    def record(self, candidate: Candidate) -> None:
        """Record the candidate as a version, unless it equals the live one; a held or failed one ends the refresh.

        Every other version that waits is superseded. A candidate with the content of a version that is held already
        leaves that one as it is, under the number that people were asked to approve.
        """
        held = self._held_with_same_content(candidate)
        self._supersede_pending(except_number=held)
        if held is not None:
            self._end_unpublished(candidate, held)
        elif not candidate.unchanged:
            self._record_version(candidate)

    def _held_with_same_content(self, candidate: Candidate) -> int | None:
        """Return the number of the version with the same content that waits for approval; None without one."""
        if candidate.status != "held" or self._force:
            return None
        content = candidate.manifest.content.sha256
        for pending in versions.pending_versions(self._context.db, self._context.key):
            if pending.status == "held" and pending.manifest and pending.manifest.content.sha256 == content:
                return pending.number
        return None

    def _supersede_pending(self, except_number: int | None) -> None:
        for pending in versions.pending_versions(self._context.db, self._context.key):
            if pending.number != except_number:
                versions.record_verdict(self._context.db, self._context.lease, pending.number, "superseded")

    def _record_version(self, candidate: Candidate) -> None:
        context = self._context
        number = versions.reserve_version(context.db, context.lease, context.run_id)
        failpoint("reserve.after")
        status = "candidate" if candidate.status == "held" and self._force else candidate.status
        manifest = self._manifest(candidate, number, is_forced=status != candidate.status)
        if status != "failed":
            manifest = pin_candidate(context.store, manifest, number, context.live_manifest())
        failpoint("settle.before")
        versions.record_verdict(context.db, context.lease, number, status, manifest)
        if status == "failed":
            self._reset_failed_tables(candidate)
        if status != "candidate":
            self._end_unpublished(candidate, number)

    def _manifest(self, candidate: Candidate, number: int, *, is_forced: bool) -> Manifest:
        verdicts = {gate.name: GateVerdict(gate.passed, gate.message) for gate in candidate.gates}
        forced = tuple(failed_gates(candidate.gates)) if is_forced else ()
        cleaned = refreshes.newest_report(self._context.db, self._context.key, "clean")
        account = Account.from_json(cleaned["account"]) if "account" in cleaned else None
        return replace(candidate.manifest, version=number, gates=verdicts, forced=forced, account=account)

    def _reset_failed_tables(self, candidate: Candidate) -> None:
        """Roll the tables that failed a check back to the live version, so that the next refresh makes them anew."""
        live = self._context.live_manifest()
        failed = [gate.name for gate in candidate.gates if not gate.passed]
        self._runner.note_repairs(reset_heads(self._context.store, live, failed))
        self._runner.note_repairs(repair_heads(self._context.store, live))
        self._runner.record(candidate.report)

    def _end_unpublished(self, candidate: Candidate, number: int) -> None:
        key = self._context.key
        problem = str(GateFailed(key, failed_gates(candidate.gates)))
        if candidate.status == "held":
            self._context.end("held", number, f"{problem}. Let it through with: kb approve {key} {number}")
        else:
            self._context.end("failed", number, problem)
