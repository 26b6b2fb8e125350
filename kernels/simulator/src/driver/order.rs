//! Which work comes before which: a vector clock for every stream, in work numbers.
//!
//! Work numbers rise in the order of the host's calls, so a clock holds, for every lane, the last piece of work that is
//! certain to be done. A lane is a stream, or a branch of a graph: its pieces run one after the other.

use std::sync::Arc;

use crate::memory::{Order, Work};

/// For every lane the number of the last piece of work that is certain to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clock(Vec<u32>);

impl Clock {
    /// The last piece of a lane that is done.
    pub fn get(&self, lane: usize) -> u32 {
        self.0.get(lane).copied().unwrap_or(0)
    }

    /// Notes that a piece of a lane, and what is before it there, is done.
    pub fn raise(&mut self, lane: usize, work: u32) {
        if self.0.len() <= lane {
            self.0.resize(lane + 1, 0);
        }
        self.0[lane] = self.0[lane].max(work);
    }

    /// Adds what `other` knows.
    pub fn join(&mut self, other: &Self) {
        for (lane, &work) in other.0.iter().enumerate() {
            self.raise(lane, work);
        }
    }

    /// Whether all that `other` knows is known.
    pub fn covers(&self, other: &Self) -> bool {
        other.0.iter().enumerate().all(|(lane, &work)| work <= self.get(lane))
    }
}

/// What a piece of work is called.
#[derive(Clone, Debug)]
pub enum Label {
    /// A call of the driver or of a library.
    Call(&'static str),
    /// A launch of a kernel.
    Kernel(Arc<str>),
}

/// All work so far.
#[derive(Debug, Default)]
pub struct Timeline {
    /// Numbers of every lane's work, rising.
    lanes: Vec<Vec<u32>>,
    /// Copied on write, which happens only if somebody still holds a [`Work`].
    names: Arc<Vec<String>>,
    /// Lane and label of work 1, 2, ...
    works: Arc<Vec<(usize, Label)>>,
}

impl Timeline {
    /// A new lane; `name` is how messages call it.
    pub fn lane(&mut self, name: String) -> usize {
        self.lanes.push(Vec::new());
        Arc::make_mut(&mut self.names).push(name);
        self.lanes.len() - 1
    }

    /// How messages call a lane.
    pub fn lane_name(&self, lane: usize) -> &str {
        &self.names[lane]
    }

    /// Starts a piece of work on a lane after all that `clock` knows, and adds it there.
    pub fn begin(&mut self, lane: usize, clock: &mut Clock, label: Label) -> Work {
        let all_before = self.all_before(clock);
        Arc::make_mut(&mut self.works).push((lane, label));
        let id = self.works.len() as u32;
        self.lanes[lane].push(id);
        clock.raise(lane, id);
        let order = Snapshot { clock: clock.clone(), works: self.works.clone(), names: self.names.clone() };
        Work { id, all_before, order: Arc::new(order) }
    }

    /// A clock that knows everything so far.
    pub fn now(&self) -> Clock {
        Clock(self.lanes.iter().map(|works| works.last().copied().unwrap_or(0)).collect())
    }

    /// The lane of a piece of work.
    pub fn lane_of(&self, work: u32) -> usize {
        self.works[work as usize - 1].0
    }

    /// The largest number up to which `clock` knows all work.
    fn all_before(&self, clock: &Clock) -> u32 {
        let first_unknown = self.lanes.iter().enumerate().filter_map(|(lane, works)| {
            let known = works.partition_point(|&work| work <= clock.get(lane));
            works.get(known).copied()
        });
        first_unknown.min().map_or(self.works.len() as u32, |work| work - 1)
    }
}

/// What a piece of work knows at its start.
#[derive(Debug)]
struct Snapshot {
    clock: Clock,
    works: Arc<Vec<(usize, Label)>>,
    names: Arc<Vec<String>>,
}

impl Order for Snapshot {
    fn after(&self, work: u32) -> bool {
        work == 0 || self.works.get(work as usize - 1).is_some_and(|&(lane, _)| work <= self.clock.get(lane))
    }

    fn name(&self, work: u32) -> String {
        match (work as usize).checked_sub(1).and_then(|index| self.works.get(index)) {
            None => format!("work {work}"),
            Some((lane, Label::Call(call))) => format!("{call} on {}", self.names[*lane]),
            Some((lane, Label::Kernel(kernel))) => format!("kernel {kernel} on {}", self.names[*lane]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Clock, Label, Timeline};

    #[test]
    fn work_is_after_what_its_lane_waited_for() {
        let mut timeline = Timeline::default();
        let (a, b) = (timeline.lane("stream 1".to_owned()), timeline.lane("stream 2".to_owned()));
        let (mut on_a, mut on_b) = (Clock::default(), Clock::default());
        let mut begin = |lane, clock: &mut Clock| timeline.begin(lane, clock, Label::Call("copy"));

        let first = begin(a, &mut on_a);
        let event = on_a.clone();
        let second = begin(a, &mut on_a);
        let unordered = begin(b, &mut on_b);
        on_b.join(&event);
        let half = begin(b, &mut on_b);
        on_b.join(&on_a);
        let whole = begin(b, &mut on_b);

        assert!(second.after(first.id) && second.all_before == 1);
        assert!(!unordered.after(first.id) && unordered.all_before == 0);
        assert!(half.after(first.id) && !half.after(second.id) && half.after(unordered.id) && half.all_before == 1);
        assert!(whole.after(second.id) && whole.all_before == 4);
        assert!(on_b.covers(&on_a) && !on_a.covers(&on_b));
        assert_eq!(half.order.name(second.id), "copy on stream 1");
        assert_eq!(half.order.name(0), "work 0");
    }
}
