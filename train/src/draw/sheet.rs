//! A contact sheet: many scenes with their predicted and true boxes.

use image::RgbImage;
use image::imageops::overlay;

use super::annotate::{Highlight, LabelledBox, Picture};
use super::palette::{INK, WHITE, color};
use super::shapes::{Rect, Stroke, frame};
use super::text::Text;

/// The width of a panel, in pixels; higher images are narrower.
const PANEL: f32 = 320.0;
const GAP: u32 = 16;
const TEXT: f32 = 17.0;

/// A scene of a contact sheet.
#[derive(Clone, Debug)]
pub struct Panel {
    /// The image of the scene.
    pub image: RgbImage,
    /// Its caption.
    pub caption: String,
    /// The phrases of the caption.
    pub highlights: Vec<Highlight>,
    /// Boxes that the model found: solid, with tags.
    pub predicted: Vec<LabelledBox>,
    /// Boxes of the annotation: dashed, without tags.
    pub truth: Vec<LabelledBox>,
}

/// Lays `panels` out in rows of `columns` (at least one), with a legend below.
pub fn sheet(panels: &[Panel], columns: usize) -> RgbImage {
    let columns = columns.clamp(1, panels.len().max(1));
    let drawn: Vec<RgbImage> = panels.iter().map(draw_panel).collect();
    let cell = PANEL as u32 + GAP;
    let row_height = |row: &[RgbImage]| row.iter().map(|panel| panel.height() + GAP).max().unwrap_or(0);
    let rows_height: u32 = drawn.chunks(columns).map(row_height).sum();
    let legend_height = (2.0 * TEXT) as u32;
    let mut out = RgbImage::from_pixel(columns as u32 * cell + GAP, rows_height + GAP + legend_height, WHITE);

    let mut top = GAP;
    for row in drawn.chunks(columns) {
        for (column, panel) in row.iter().enumerate() {
            let margin = (PANEL as u32).saturating_sub(panel.width()) / 2;
            overlay(&mut out, panel, i64::from(GAP + column as u32 * cell + margin), i64::from(top));
        }
        top += row_height(row);
    }
    draw_legend(&mut out, top as f32);
    out
}

fn draw_panel(panel: &Panel) -> RgbImage {
    let longer = panel.image.width().max(panel.image.height()).max(1) as f32;
    let picture = Picture {
        image: &panel.image,
        solid: &panel.predicted,
        dashed: &panel.truth,
        caption: &panel.caption,
        highlights: &panel.highlights,
    };
    picture.draw(PANEL / longer, TEXT)
}

/// Explains the two kinds of frames.
fn draw_legend(out: &mut RgbImage, top: f32) {
    let mut left = GAP as f32;
    for (words, stroke) in [("predicted", Stroke::Solid), ("true", Stroke::Dashed)] {
        let sample = Rect { left, top: top + 4.0, right: left + 2.5 * TEXT, bottom: top + 4.0 + TEXT };
        frame(out, &sample, 2.0, stroke, color(0));
        let text = Text::line(words, TEXT);
        text.draw(out, sample.right + 8.0, top, |_| INK);
        left = sample.right + 8.0 + text.width() + 2.0 * TEXT;
    }
}
