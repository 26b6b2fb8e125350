//! What is wrong with the rows of a data file, collected so that one reading shows more than the first mistake.

use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

/// How many problems are kept to be shown; all are counted.
const SHOWN: usize = 20;

/// Why a row cannot be used; and, from [`Reason::BoxClamped`] on, what is done to one that can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A key is missing, or its value has the wrong type.
    Malformed,
    /// The id occurs before.
    DuplicateId,
    /// An annotation's image is not in the file.
    UnknownImage,
    /// The image file is not there.
    MissingImage,
    /// The image file cannot be decoded.
    UnreadableImage,
    /// The caption has more tokens than the text encoder reads.
    CaptionTooLong,
    /// The box holds NaN or infinity.
    BoxNotFinite,
    /// The box has a negative width or height.
    BoxNegative,
    /// A box to train on names no part of the caption.
    SpansMissing,
    /// A span ends before it starts, or beyond the caption.
    SpanOutOfRange,
    /// A span covers spaces or nothing.
    SpanBlank,
    /// The box reaches out of its image and is cut.
    BoxClamped,
    /// The box has no width or height in its image and is left out.
    BoxDropped,
    /// The box is a group and is left out.
    Crowd,
    /// The box lists no spans: it is found as a box and matched with no word.
    BoxWithoutWords,
    /// The caption is empty or blank.
    CaptionBlank,
    /// Words from the 256th token on are no targets.
    CaptionBeyondColumns,
    /// The image has no box.
    ImageWithoutBoxes,
}

impl Reason {
    /// Whether a row can be used nevertheless.
    pub fn is_note(self) -> bool {
        self >= Self::BoxClamped
    }
}

/// As JSON spells it.
impl Display for Reason {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        self.serialize(formatter)
    }
}

/// A row and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// "image 12".
    pub item: String,
    /// What kind of problem it is.
    pub reason: Reason,
    /// What was found and what was expected.
    pub detail: String,
}

/// Problems by reason, and the first ones.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Problems {
    /// How many there are.
    pub count: usize,
    /// How many of each kind.
    pub by_reason: BTreeMap<Reason, usize>,
    /// The first ones.
    pub first: Vec<Problem>,
}

impl Problems {
    /// Notes that `item` ("image 12") is wrong for `reason`; `detail` says what was found and what was expected.
    pub fn add(&mut self, item: impl Display, reason: Reason, detail: impl Display) {
        self.count += 1;
        *self.by_reason.entry(reason).or_default() += 1;
        if self.first.len() < SHOWN {
            self.first.push(Problem { item: item.to_string(), reason, detail: detail.to_string() });
        }
    }

    /// "12 box_clamped, 3 crowd".
    pub fn counts(&self) -> String {
        let counts = self.by_reason.iter().map(|(reason, count)| format!("{count} {reason}"));
        counts.collect::<Vec<_>>().join(", ")
    }
}

/// The number of problems and a line for each of the first ones.
impl Display for Problems {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} problem(s)", self.count)?;
        for Problem { item, detail, .. } in &self.first {
            write!(formatter, "\n  {item}: {detail}")?;
        }
        match self.count - self.first.len() {
            0 => Ok(()),
            more => write!(formatter, "\n  and {more} more ({})", self.counts()),
        }
    }
}
