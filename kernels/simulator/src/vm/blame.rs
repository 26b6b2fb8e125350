//! What is wrong with an access, in words: whose memory it is, and with whom it races.

use super::access::{Actor, Kinds, Place};
use super::block::Block;
use super::code::Space;
use super::program::SHARED_SLOT_BITS;
use crate::findings::Kind;
use crate::memory::{self, Fault, PENDING, Rival};

impl Block<'_> {
    pub(super) fn report_misaligned(
        &self,
        actor: Actor<'_>,
        place: &Place<'_>,
        address: u64,
        bytes: u64,
        kind: Kinds,
    ) {
        let message = format!("{} of {bytes} bytes at {address:#x}", verb(kind));
        self.fault(Kind::Misaligned, actor.warp, actor.group, actor.lane as u32, self.owner(place), message);
    }

    pub(super) fn report_fault(
        &self,
        actor: Actor<'_>,
        space: Space,
        address: u64,
        bytes: u64,
        kind: Kinds,
        fault: &Fault,
    ) {
        let verb = verb(kind);
        let (kind, start, message) = match fault {
            Fault::Unknown => {
                (Kind::OutOfBounds, None, format!("{verb} of {bytes} bytes at {address:#x}: nothing is there"))
            }
            Fault::OutOfBounds(start, size) => {
                let offset = address.wrapping_sub(*start) as i64;
                let message = format!("{verb} of {bytes} bytes at byte {offset} of {size}");
                (Kind::OutOfBounds, Some(*start), message)
            }
            Fault::Freed(start, size) => {
                let offset = address.wrapping_sub(*start) as i64;
                let message = format!("{verb} of {bytes} bytes at byte {offset} of {size} that were freed");
                (Kind::UseAfterFree, Some(*start), message)
            }
        };
        let owner = match (space, start) {
            (_, None) => None,
            (Space::Shared, Some(start)) => self.shared_name((start >> SHARED_SLOT_BITS) as usize - 1),
            (Space::Local, _) => Some("local memory".to_owned()),
            (Space::Parameter, _) => Some("the arguments".to_owned()),
            (_, Some(start)) => self.argument(start),
        };
        self.fault(kind, actor.warp, actor.group, actor.lane as u32, owner, message);
    }

    pub(super) fn report_unwritten(&self, actor: Actor<'_>, place: &Place<'_>, bytes: u64) {
        let at = place.allocation.first_unwritten(place.offset, bytes).unwrap_or(place.offset);
        let pending = place.allocation.written.load::<u8>(at) == PENDING;
        let within = if place.space == Space::Local { at % self.local_size } else { at };
        let (kind, message) = if pending {
            (Kind::MissingAsyncWait, format!("read of byte {within} before its asynchronous copy was waited for"))
        } else {
            (Kind::Uninitialized, format!("read of byte {within}, which nothing wrote"))
        };
        self.fault(kind, actor.warp, actor.group, actor.lane as u32, self.owner(place), message);
    }

    /// Names whom an access races with.
    pub(super) fn report_race(&self, actor: Actor<'_>, place: &Place<'_>, access: memory::Access, rival: Rival) {
        let did = |access| if access == memory::Access::Read { "read" } else { "wrote" };
        let here = if access == memory::Access::Read { "reads" } else { "writes" };
        let offset = place.offset;
        let (kind, message) = match rival {
            Rival::Thread(block, thread, access) => {
                let other = self.thread(block, thread);
                let did = did(access);
                let message =
                    format!("{here} byte {offset}, which {other} {did} with nothing in between to order the two");
                (Kind::Race, message)
            }
            Rival::Blocks => {
                let message =
                    format!("{here} byte {offset}, which threads of other blocks read with nothing to order them");
                (Kind::Race, message)
            }
            Rival::Work(work, access) => {
                let name = self.grid.work.order.name(work);
                let message =
                    format!("{here} byte {offset}, which {name} {}; this launch does not wait for it", did(access));
                (Kind::StreamOrder, message)
            }
        };
        self.fault(kind, actor.warp, actor.group, actor.lane as u32, self.owner(place), message);
    }

    /// Whose memory it is.
    fn owner(&self, place: &Place<'_>) -> Option<String> {
        match place.space {
            Space::Shared => {
                let number = self.shared.iter().position(|variable| std::ptr::eq(variable, place.allocation));
                number.and_then(|number| self.shared_name(number))
            }
            Space::Local => Some("local memory".to_owned()),
            Space::Parameter => Some("the arguments".to_owned()),
            _ => self.argument(place.allocation.address),
        }
    }

    fn shared_name(&self, number: usize) -> Option<String> {
        self.grid.kernel.shared_variables.get(number).map(|(name, _)| format!("shared {}", plain(name)))
    }

    /// The argument that points into an allocation, or the variable that it is.
    fn argument(&self, start: u64) -> Option<String> {
        let arguments = self.grid.launch.arguments;
        let pointers = self.grid.kernel.parameters.iter().enumerate().find(|(_, (offset, bytes))| {
            let words =
                arguments.get(*offset as usize..(offset + bytes) as usize).unwrap_or_default().chunks_exact(8);
            words
                .into_iter()
                .any(|word| memory::same_allocation(u64::from_le_bytes(word.try_into().unwrap_or_default()), start))
        });
        let argument = pointers.map(|(index, _)| format!("argument {index}"));
        argument.or_else(|| {
            let (allocation, _) = self.grid.memory.find(start, 0).ok()?;
            Some(if allocation.name.is_empty() {
                format!("the memory at {start:#x}")
            } else {
                allocation.name.clone()
            })
        })
    }
}

fn verb(kind: Kinds) -> &'static str {
    match kind {
        Kinds::Read => "read",
        Kinds::Write => "write",
        Kinds::Both => "atomic",
    }
}

/// The name of a variable inside of a function, without what C++ puts around it: `tile` of `_ZZ4gemmE4tile`.
fn plain(mangled: &str) -> &str {
    let digits = |at: usize| mangled[at..].bytes().take_while(u8::is_ascii_digit).count();
    let name = |at: usize| {
        let start = at + digits(at);
        let end = start + mangled[at..start].parse::<usize>().ok()?;
        // what may follow counts variables of the same name
        let rest = mangled.get(end..)?;
        rest.trim_start_matches('_').bytes().all(|b| b.is_ascii_digit()).then(|| &mangled[start..end])
    };
    let starts = mangled.match_indices('E').map(|(at, _)| at + 1).filter(|&at| digits(at) > 0);
    if mangled.starts_with("_ZZ") { starts.filter_map(name).next_back().unwrap_or(mangled) } else { mangled }
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn variables_are_called_as_in_the_source() {
        assert_eq!(plain("_ZZ4racyE1s"), "s");
        assert_eq!(plain("_ZZN3foo4gemmILi32EEvPfE4tile_0"), "tile");
        assert_eq!(plain("_ZZ1kE99x"), "_ZZ1kE99x");
        assert_eq!(plain("shared"), "shared");
        assert_eq!(plain("_ZZE"), "_ZZE");
    }
}
