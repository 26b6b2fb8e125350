//! Where a token lies in its image.

use mdetr_autograd::functional as f;
use mdetr_autograd::{ParameterId, Tape, Var};
use mdetr_kernels::position_sine::position_sine;

use crate::init::{Builder, Init};
use crate::ragged::Layout;

/// Rows and columns that a learned encoding has.
const LEARNED_SIZE: usize = 50;

/// Encodings of the valid cells of feature maps.
#[derive(Debug)]
pub enum PositionEncoding {
    /// Sines of the normalized coordinates.
    Sine {
        /// Channels.
        width: usize,
    },
    /// A learned row and a learned column.
    Learned {
        /// (50, C / 2)
        row_embed: ParameterId,
        /// (50, C / 2)
        col_embed: ParameterId,
    },
}

impl PositionEncoding {
    /// `kind` is "sine" or "learned".
    pub fn new(mut at: Builder, kind: &str, width: usize) -> Self {
        match kind {
            "learned" => PositionEncoding::Learned {
                row_embed: at.parameter("row_embed.weight", &[LEARNED_SIZE, width / 2], Init::Unit),
                col_embed: at.parameter("col_embed.weight", &[LEARNED_SIZE, width / 2], Init::Unit),
            },
            _ => PositionEncoding::Sine { width },
        }
    }

    /// The largest feature map, in cells a side.
    pub fn max_side(&self) -> usize {
        match self {
            PositionEncoding::Sine { .. } => usize::MAX,
            PositionEncoding::Learned { .. } => LEARNED_SIZE,
        }
    }

    /// ([`Layout::cells`], C), valid cells row-major, in the type of the masters.
    pub fn forward<'t>(&self, tape: &'t Tape<'t>, layout: &Layout) -> Var<'t> {
        match self {
            PositionEncoding::Sine { width } => {
                let positions = position_sine(&layout.sizes, layout.cells(), *width, tape.device());
                f::cast(&tape.constant(positions), tape.master_dtype())
            }
            PositionEncoding::Learned { row_embed, col_embed } => {
                let (row_embed, col_embed) = (tape.parameter(*row_embed), tape.parameter(*col_embed));
                f::position_learned(&row_embed, &col_embed, &layout.sizes, layout.cells())
            }
        }
    }
}
