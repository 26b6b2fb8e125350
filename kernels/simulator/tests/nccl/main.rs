//! NCCL's stand-in between processes, through cudarc.

#[allow(dead_code, reason = "shared by test targets")]
#[path = "../common/process.rs"]
mod process;

mod collectives;
mod faults;
mod ranks;

use ranks::Body;

/// How many ranks, and what each does.
const CASES: [(&str, usize, Body); 15] = [
    ("every_collective", 2, collectives::every_collective),
    ("every_collective_of_three", 3, collectives::every_collective),
    ("rounding", 3, collectives::rounding),
    ("ring", 3, collectives::ring),
    ("groups_in_any_order", 2, collectives::groups_in_any_order),
    ("replay", 2, collectives::replay),
    ("death", 3, faults::death),
    ("leaving", 2, faults::leaving),
    ("mismatch", 2, faults::mismatch),
    ("out_of_bounds", 2, faults::out_of_bounds),
    ("late_rank", 3, faults::late_rank),
    ("late_receive", 2, faults::late_receive),
    ("different_worlds", 2, faults::different_worlds),
    ("refusals", 1, faults::refusals),
    ("one_process", 1, faults::one_process),
];

/// A rank of a case; nothing but in a process that is one.
#[test]
fn rank() {
    ranks::enter(&CASES);
}

#[test]
fn ranks_get_what_nccl_documents_or_are_told_who_is_to_blame() {
    let name = "ranks_get_what_nccl_documents_or_are_told_who_is_to_blame";
    let report = process::simulated(name, &[], || {
        for (case, ranks, _) in CASES {
            for (rank, (success, said)) in ranks::run(case, ranks).into_iter().enumerate() {
                assert!(success && said.contains("1 passed") || case == "death", "{case}, rank {rank}:\n{said}");
            }
        }
    });
    if let Some(report) = report {
        report.assert_clean();
    }
}
