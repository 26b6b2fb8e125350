//! The image-caption warm-up: phrases learn to find their image by its grid cells, with no boxes.
//!
//! Training from nothing, a detector finds boxes quickly and then waits long until image tokens bind to words. This phase
//! binds them first: the score of a phrase on an image is a soft maximum over the cosines of its grid cells, and each
//! phrase must tell its own image from those whose captions lack it.

use mdetr_autograd::functional as f;
use mdetr_autograd::{Tape, Var};
use mdetr_kernels::{Device, Tensor};

use crate::batch::Batch;
use crate::mdetr::Mdetr;

/// The phrases of a batch's captions.
#[derive(Clone, Debug)]
pub struct Phrases {
    /// For each phrase its tokens, as rows of the (B * T) text.
    pub tokens: Vec<Vec<usize>>,
    /// Whose caption each phrase is in.
    pub image: Vec<usize>,
    /// (P, B): whether image b may be told apart from the phrase's own: its caption lacks the phrase, or it is its own.
    pub candidates: Vec<Vec<bool>>,
}

/// The warm-up's loss, ().
pub fn caption_contrastive<'t>(model: &Mdetr, tape: &'t Tape<'t>, batch: &Batch, phrases: &Phrases) -> Var<'t> {
    let images = model.network.encode_images(tape, &batch.images, &batch.image_sizes);
    let text = model.network.encode_text(tape, &batch.text); // (B * T, C)
    let (index, cells) = valid_cells(&images.sizes, images.grid_size, tape.device());
    let features = f::cast(&f::gather_rows(&index, &[&images.grid]), tape.master_dtype());
    let tensor = |v: &[i32], shape: &[usize]| Tensor::from_slice(v, shape, tape.device());
    let rows: Vec<i32> = phrases.tokens.iter().flatten().map(|&t| t as i32).collect();
    let mut offsets = vec![0];
    for tokens in &phrases.tokens {
        offsets.push(offsets[offsets.len() - 1] + tokens.len() as i32);
    }
    let means = f::mean_rows(&text, &tensor(&rows, &[rows.len()]), &tensor(&offsets, &[offsets.len()]));
    let means = f::cast(&means, tape.master_dtype());
    let image: Vec<i32> = phrases.image.iter().map(|&b| b as i32).collect();
    let candidates: Vec<i32> = phrases.candidates.iter().flatten().map(|&c| i32::from(c)).collect();
    let (p, b) = (image.len(), images.sizes.len());
    f::caption_contrastive_loss(
        &f::l2_normalize(&features),
        &f::l2_normalize(&means),
        &tensor(&image, &[p]),
        &tensor(&candidates, &[p, b]),
        &cells,
    )
}

/// Rows of the valid cells in a padded grid, and the first of them of each image.
fn valid_cells(sizes: &[[usize; 2]], grid: [usize; 2], device: Device) -> (Tensor, Vec<usize>) {
    let mut rows = Vec::new();
    let mut cells = vec![0];
    for (b, &[h, w]) in sizes.iter().enumerate() {
        for y in 0..h {
            rows.extend((0..w).map(|x| ((b * grid[0] + y) * grid[1] + x) as i32));
        }
        cells.push(rows.len());
    }
    (Tensor::from_slice(&rows, &[rows.len()], device), cells)
}
