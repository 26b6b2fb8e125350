//! The product of windows with packed filters, forward and for the data gradient: windows are read where they lie (no
//! im2col).

use rayon::prelude::*;

use super::window::{Image, Reach, Windows};
use crate::gemm_packed::{Epilogue, Product};
use crate::panels::Factor;
use crate::simd::dispatch;

/// Output pixels whose coordinates leave the same remainders by the output step: they see the same taps.
pub struct Phase {
    /// Where taps lie from the window's own pixel, (row, column).
    pub taps: Vec<(isize, isize)>,
    /// The filters (taps * run, outputs).
    pub filters: Factor,
}

/// y[t a + u, t b + v, :] = sum over taps of phase (u, v) of x[s a + row, s b + column, ...run] times the tap's filter.
pub struct Correlation {
    /// All remainders (u, v) by the output step, row-major.
    pub phases: Vec<Phase>,
    /// s.
    pub in_step: usize,
    /// t.
    pub out_step: usize,
    /// Pixels, contiguous in memory, that a tap spans.
    pub span: usize,
}

/// Images (batch, h, w, c).
#[derive(Clone, Copy)]
pub struct Extent {
    pub h: usize,
    pub w: usize,
    pub c: usize,
}

impl Extent {
    fn image(&self) -> usize {
        self.h * self.w * self.c
    }
}

impl Correlation {
    /// Computes y (batch of `out`) from x (batch of `input`).
    pub fn run(&self, y: &mut [f32], x: &[f32], out: Extent, input: Extent, epilogue: Epilogue) {
        if y.is_empty() {
            return;
        }
        let images = y.len() / out.image();
        let pixels = self.phases[0].filters.task_rows(images * out.h * out.w, input.c * size_of::<f32>());
        let tasks: Vec<Task> = y
            .chunks_mut(out.image())
            .enumerate()
            .flat_map(|(image, y)| {
                y.chunks_mut(pixels * out.c).enumerate().map(move |(block, y)| Task {
                    image,
                    start: block * pixels,
                    y,
                })
            })
            .collect();
        let taps = self.phases.iter().flat_map(|p| p.taps.iter().copied());
        let reach = Reach::new(self.in_step, taps, self.span);
        tasks.into_par_iter().with_max_len(1).for_each(|task| self.block(task, x, out, input, reach, epilogue));
    }

    fn block(&self, task: Task, x: &[f32], out: Extent, input: Extent, reach: Reach, epilogue: Epilogue) {
        let step = self.out_step;
        let pixels = task.start..task.start + task.y.len() / out.c;
        let rows = pixels.start / out.w / step..(pixels.end - 1) / out.w / step + 1;
        let x = &x[task.image * input.image()..][..input.image()];
        let image = Image { pixels: x, h: input.h, w: input.w, c: input.c };
        let windows = Windows::new(image, reach, rows, (out.h.div_ceil(step), out.w.div_ceil(step)));
        let (memory, layout) = windows.memory();
        let mut places = vec![Vec::new(); self.phases.len()];
        for (i, pixel) in pixels.enumerate() {
            let (r, c) = (pixel / out.w, pixel % out.w);
            places[r % step * step + c % step].push((layout.corner(r / step, c / step), i * out.c));
        }
        let offset = task.image * out.image() + task.start * out.c;
        let epilogue = Epilogue { residual: epilogue.residual.map(|r| &r[offset..][..task.y.len()]), ..epilogue };
        for (phase, places) in self.phases.iter().zip(places) {
            let taps: Vec<usize> = phase.taps.iter().map(|&t| layout.tap(t)).collect();
            let (panels, sums) = phase.filters.slices();
            let (y, outputs, run) = (&mut *task.y, out.c, self.span * input.c);
            dispatch(Product { y, outputs, x: memory, panels, sums, places: &places, taps: &taps, run, epilogue });
        }
    }
}

/// Output pixels `start`.. of one image.
struct Task<'a> {
    image: usize,
    start: usize,
    y: &'a mut [f32],
}
