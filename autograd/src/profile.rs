//! Time by op and pass, with the arithmetic done in it.

use std::collections::BTreeMap;
use std::time::Duration;

use mdetr_kernels::op::{Cost, Pass};

/// Measured time of one op in one pass.
#[derive(Clone, Copy, Debug, Default)]
pub struct Entry {
    /// Number of calls.
    pub calls: usize,
    /// Wall time.
    pub time: Duration,
    /// Floating-point operations (forward only: backward does not see its inputs' sizes).
    pub flops: f64,
}

/// What a tape measured.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    entries: BTreeMap<(&'static str, bool), Entry>,
}

impl Profile {
    pub(crate) fn record(&mut self, op: &'static str, pass: Pass, time: Duration, cost: Cost) {
        let entry = self.entries.entry((op, pass == Pass::Backward)).or_default();
        entry.calls += 1;
        entry.time += time;
        entry.flops += cost.flops;
    }

    /// Adds another step's measurements.
    pub fn merge(&mut self, other: &Profile) {
        for (key, e) in &other.entries {
            let entry = self.entries.entry(*key).or_default();
            entry.calls += e.calls;
            entry.time += e.time;
            entry.flops += e.flops;
        }
    }

    /// A table, the costliest op first.
    pub fn table(&self) -> String {
        let mut rows: Vec<_> = self.entries.iter().collect();
        rows.sort_by_key(|(_, e)| std::cmp::Reverse(e.time));
        let total: Duration = rows.iter().map(|(_, e)| e.time).sum();
        let mut out = format!("{:<28} {:>7} {:>10} {:>6} {:>9}\n", "op", "calls", "ms", "%", "GFLOP/s");
        for ((op, backward), e) in rows {
            let seconds = e.time.as_secs_f64();
            out += &format!(
                "{:<28} {:>7} {:>10.2} {:>6.1} {:>9}\n",
                format!("{op}{}", if *backward { " backward" } else { "" }),
                e.calls,
                seconds * 1e3,
                100.0 * seconds / total.as_secs_f64().max(1e-12),
                if e.flops > 0.0 { format!("{:.1}", e.flops / seconds / 1e9) } else { String::new() },
            );
        }
        out + &format!("{:<28} {:>7} {:>10.2}\n", "total", "", total.as_secs_f64() * 1e3)
    }
}
