//! The books: calls, launches, allocations and who used them, calls that made the host wait, findings.

use std::collections::{BTreeMap, HashMap};

use cudarc::driver::sys::CUresult;
use serde::Serialize;

use super::order::Timeline;
use super::{Answer, code_of};
use crate::findings::{self, Finding, Kind};
use crate::memory::Work;

/// Launches of one kernel.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Launches {
    /// How many.
    pub count: u64,
    /// Instructions by all of their threads.
    pub thread_instructions: u64,
}

/// What was allocated.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Allocations {
    /// How many.
    pub count: u64,
    /// Bytes of all of them.
    pub bytes: u64,
    /// The most that lived at once.
    pub peak_bytes: u64,
    /// How many were freed.
    pub frees: u64,
}

/// An allocation that lives.
#[derive(Debug)]
struct Lease {
    bytes: u64,
    /// From 1, in the order of the calls.
    number: u64,
    call: &'static str,
    /// The stream-ordered work that made it; 0 if any stream may use it.
    made_by: u32,
    /// The last piece of work on every lane that used it.
    uses: Vec<(usize, u32)>,
}

/// Everything that is counted or found.
#[derive(Debug, Default)]
pub struct Books {
    /// All work.
    pub timeline: Timeline,
    /// Calls by name.
    pub calls: BTreeMap<&'static str, u64>,
    /// Calls that made the host wait, by name.
    pub blocking: BTreeMap<&'static str, u64>,
    /// By kernel.
    pub launches: BTreeMap<String, Launches>,
    /// Totals.
    pub allocations: Allocations,
    /// The faults.
    pub findings: Vec<Finding>,
    /// The region in which no call may wait for the device.
    pub forbidden: Option<String>,
    leases: HashMap<u64, Lease>,
    live_bytes: u64,
}

/// A finding about a call of the host.
pub fn finding(kind: Kind, place: &str, message: String) -> Finding {
    Finding { kind, place: place.to_owned(), line: None, argument: None, thread: None, message, count: 1 }
}

impl Books {
    /// Keeps a finding, prints it if it is new, and returns what the call that met it answers.
    pub fn found(&mut self, finding: Finding) -> CUresult {
        let code = code_of(finding.kind);
        if !self.findings.iter().any(|known| known.same(&finding)) {
            eprintln!("simulator: {finding}");
        }
        findings::add(&mut self.findings, finding);
        code
    }

    /// Counts a call that waits for the device, and finds it where that is forbidden.
    pub fn blocks(&mut self, call: &'static str) {
        *self.blocking.entry(call).or_default() += 1;
        if let Some(region) = &self.forbidden {
            let message = format!("it waits for the device, which is forbidden in {region}");
            self.found(finding(Kind::BlockingCall, call, message));
        }
    }

    /// Counts a launch.
    pub fn launched(&mut self, kernel: &str, thread_instructions: u64) {
        let launches = match self.launches.get_mut(kernel) {
            Some(launches) => launches,
            None => self.launches.entry(kernel.to_owned()).or_default(),
        };
        launches.count += 1;
        launches.thread_instructions += thread_instructions;
    }

    /// Bytes that live.
    pub fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// Notes an allocation; `made_by` is 0 unless it is stream-ordered.
    pub fn allocated(&mut self, address: u64, bytes: u64, call: &'static str, made_by: u32) {
        let totals = &mut self.allocations;
        totals.count += 1;
        totals.bytes += bytes;
        self.live_bytes += bytes;
        totals.peak_bytes = totals.peak_bytes.max(self.live_bytes);
        let lease = Lease { bytes, number: totals.count, call, made_by, uses: Vec::new() };
        self.leases.insert(address, lease);
    }

    /// Notes that `work` used an allocation; a finding, not kept yet, if it did not wait for it.
    pub fn used(&mut self, address: u64, work: &Work, place: &str) -> Option<Finding> {
        let lease = self.leases.get_mut(&address)?;
        let lane = self.timeline.lane_of(work.id);
        match lease.uses.iter_mut().find(|(of, _)| *of == lane) {
            Some((_, last)) => *last = work.id,
            None => lease.uses.push((lane, work.id)),
        }
        if work.after(lease.made_by) {
            return None;
        }
        let message = format!(
            "memory used on {} that did not wait for its allocation ({}, allocation {})",
            self.timeline.lane_name(lane),
            work.order.name(lease.made_by),
            lease.number,
        );
        Some(finding(Kind::StreamOrder, place, message))
    }

    /// Forgets an allocation that the host frees, which waits for the device.
    pub fn freed(&mut self, address: u64) {
        if let Some(lease) = self.leases.remove(&address) {
            self.allocations.frees += 1;
            self.live_bytes -= lease.bytes;
        }
    }

    /// Forgets an allocation that `work` frees.
    ///
    /// # Errors
    /// If other work may still use it.
    pub fn freed_by(&mut self, address: u64, work: &Work, place: &str) -> Answer {
        let Some(lease) = self.leases.get(&address) else { return Ok(()) };
        let made_and_used = std::iter::once(lease.made_by).chain(lease.uses.iter().map(|&(_, last)| last));
        let pending = made_and_used.max_by_key(|&last| (!work.after(last), last)).filter(|&last| !work.after(last));
        let number = lease.number;
        self.freed(address);
        let Some(pending) = pending else { return Ok(()) };
        let message = format!(
            "allocation {number} is freed on {}, which did not wait for {}",
            self.timeline.lane_name(self.timeline.lane_of(work.id)),
            work.order.name(pending),
        );
        Err(self.found(finding(Kind::StreamOrder, place, message)))
    }

    /// A finding for every allocation that lives, in the order of the calls.
    pub fn leaks(&self) -> Vec<Finding> {
        let mut leases: Vec<_> = self.leases.values().collect();
        leases.sort_by_key(|lease| lease.number);
        let leak = |lease: &&Lease| Finding {
            argument: Some(format!("allocation {}", lease.number)),
            ..finding(Kind::Leak, lease.call, format!("{} bytes were never freed", lease.bytes))
        };
        leases.iter().map(leak).collect()
    }
}
