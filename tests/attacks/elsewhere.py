"""Attacks that have a test of their own: who does what, what is seen of it, and the test."""

from __future__ import annotations

SERVER, HOSPITAL, NETWORK = (
    "tests/attacks/test_on_server.py",
    "tests/attacks/test_on_hospital.py",
    "tests/attacks/test_on_network.py",
)
PROOF, GATE = "tests/strategies/test_proof.py", "tests/server/deploy/test_gate.py"
GUARD, GRID = "tests/client/test_guard.py", "tests/server/engines/test_careful_grid.py"
Row = tuple[str, str, str, str]
ELSEWHERE: list[Row] = [
    (
        "hospital",
        "alters any byte of a signed answer",
        "`wrong-signature`, or `malformed-array`",
        f"{SERVER}::test_each_byte_of_a_signed_answer",
    ),
    (
        "hospital",
        "sends a loss of 1e30",
        "its update counts; the loss is left out, and the hospital named",
        f"{SERVER}::test_a_loss_of_1e30",
    ),
    (
        "hospital",
        "sends an update of zeros",
        "it counts: a mean is diluted by one hospital's share, a median stays among the honest",
        f"{SERVER}::test_an_update_of_zeros",
    ),
    (
        "hospital",
        "sends a mark with a number that no ledger reaches",
        "it counts once; then its own marks are `ledger-rewound`",
        f"{SERVER}::test_a_mark_that_no_ledger_reaches",
    ),
    (
        "hospital",
        "sends every reply twice, or two different ones",
        "the first valid one counts",
        f"{SERVER}::test_two_different_replies_to_one_request",
    ),
    (
        "hospital",
        "answers the request of another hospital, before it or after it",
        "the other's own answer counts",
        f"{SERVER}::test_a_reply_to_the_request_of_another_hospital",
    ),
    (
        "hospital",
        "answers when the time is over",
        "`no-reply`",
        f"{SERVER}::test_a_reply_that_comes_after_the_time_is_over",
    ),
    (
        "hospital",
        "announces a reply and never sends all of it",
        "`no-reply`; the others do not wait for it",
        f"{GRID}::test_a_reply_that_never_arrives_whole_does_not_hold_up_the_others",
    ),
    (
        "hospital",
        "sends the server messages that answer nothing",
        "they are thrown away",
        f"{GRID}::test_messages_that_nobody_asked_for_cost_nobody_a_round",
    ),
    (
        "hospital",
        "claims another's seat, while the owner is there",
        "no seat; the owner keeps its own",
        f"{PROOF}::test_a_stranger_gets_no_seat_and_does_no_harm",
    ),
    (
        "hospital",
        "claims another's seat, while the owner is away or after it left",
        "no seat; the run does not begin without the owner, and the stranger's node is named",
        f"{PROOF}::test_the_owner_who_is_away_is_missing_and_the_stranger_named",
    ),
    (
        "hospital",
        "says nothing at the roll call, to keep everybody waiting",
        "the others are seated meanwhile",
        f"{PROOF}::test_a_stranger_that_says_nothing_does_not_take_all_the_time",
    ),
    (
        "hospital",
        "sends NaN, 1e30, weights and text for a page in a whole run",
        "`audit.jsonl`, `result.json`, `report.md`, `report.html` name it, and hold no such text",
        "tests/attacks/test_in_a_run.py::test_the_attacker_is_named_wherever_a_result_is_read",
    ),
    (
        "hospital",
        "judges, and sends scores that are NaN, out of range or of another name",
        "**it stops the run's last step**, by name: the final table needs every hospital that "
        "judges; theta is kept, and `metaward resume` ends the run when the hospital answers",
        "tests/attacks/test_in_a_run.py::test_scores_that_must_not_count",
    ),
    (
        "server",
        "asks for training at a theta of 1e30, 1e-30, zeros, or the largest number",
        "charged like any other; the update is finite, clipped and noised",
        f"{HOSPITAL}::test_a_theta_that_is_chosen_to_provoke",
    ),
    (
        "server",
        "asks for one round again and again at other thetas",
        "each is charged; then `budget-spent`",
        f"{HOSPITAL}::test_the_same_round_again_and_again_at_other_thetas",
    ),
    (
        "server",
        "asks for one round again as it was, to see other noise",
        "the stored bytes again, no charge",
        f"{GUARD}::test_a_retry_is_answered_with_the_same_bytes_and_charged_once",
    ),
    (
        "server",
        "names a run by a path, where a simulation makes a folder of that name",
        "`bad-request`; no folder is made",
        f"{HOSPITAL}::test_a_name_of_a_run_that_is_a_path_in_a_simulation",
    ),
    (
        "server",
        "calls a real hospital a simulation",
        "a hospital with a policy is none",
        f"{GUARD}::test_the_server_cannot_call_it_a_simulation",
    ),
    (
        "server",
        "asks for a download, to see an address",
        "no connection without the hospital's own setting",
        f"{GUARD}::test_only_the_hospitals_own_setting_opens_a_connection",
    ),
    (
        "server",
        "works together with an older copy of the ledger",
        "`ledger-rewound`, by the mark of an honest server",
        f"{GUARD}::test_a_copy_from_while_the_round_computed_does_not_answer_it_again",
    ),
    (
        "server",
        "ships code that is not on the hospital's list",
        "403 at the hospital's gate",
        f"{GATE}::test_altered_code_stays_outside",
    ),
    (
        "server",
        "ships two bundles in one answer, of which one is on the list",
        "what was looked at is what arrives",
        f"{GATE}::test_what_was_looked_at_is_what_arrives",
    ),
    (
        "network",
        "signs a bundle with a key that the hospital does not know",
        "403 at the hospital's gate",
        f"{GATE}::test_a_stranger_s_signature_admits_nothing",
    ),
    (
        "network",
        "puts itself in the server's place with another certificate",
        "502 at the hospital's gate; nothing is sent",
        f"{GATE}::test_a_server_with_another_certificate_is_not_the_server",
    ),
    (
        "network",
        "takes a SuperNode's tasks by a program on the hospital's machine, and answers for it",
        "`unsigned`, `malformed-message`: the hospital loses those rounds, nobody else does",
        "tests/attacks/test_on_machine.py"
        "::test_it_takes_the_tasks_and_nothing_that_it_sends_counts",
    ),
    (
        "network",
        "reaches for the server's other ports and interfaces, from another machine",
        "403, or no connection",
        "tests/server/deploy/test_machines.py"
        "::test_four_machines_carry_out_a_run_and_keep_strangers_out",
    ),
]
