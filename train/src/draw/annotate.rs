//! An image with boxes on it and its caption below.

use image::RgbImage;
use image::imageops::{FilterType, overlay, resize};

use super::palette::{INK, WHITE, color, text_on};
use super::shapes::{Rect, Stroke, fill, frame};
use super::text::Text;

/// The longer side that small images are enlarged to at least, so that text on them can be read, in pixels.
const LEGIBLE: u32 = 448;

/// A box to draw.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledBox {
    /// Left, top, right and bottom in pixels of the image. Boxes may reach out of the image; one with a coordinate that
    /// is not finite is not drawn.
    pub xyxy: [f32; 4],
    /// The text of the tag. With neither label nor score there is no tag.
    pub label: String,
    /// A confidence from 0 to 1, shown in the tag.
    pub score: Option<f32>,
    /// The index of the box's colour, see [`color`]: the one of its phrase.
    pub color: usize,
}

/// A phrase of a caption that is highlighted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Highlight {
    /// A half-open range of code points of the caption; what lies beyond its end is ignored.
    pub span: [usize; 2],
    /// The index of the colour, see [`color`].
    pub color: usize,
}

/// Draws `boxes` on `image` and its caption below, each phrase highlighted in the colour of its boxes.
///
/// Small images are enlarged by a whole factor; wide captions are wrapped.
pub fn annotate(image: &RgbImage, boxes: &[LabelledBox], caption: &str, highlights: &[Highlight]) -> RgbImage {
    let longer = image.width().max(image.height()).max(1);
    let scale = LEGIBLE.div_ceil(longer);
    let text_size = (longer * scale) as f32 / 32.0;
    let picture = Picture { image, solid: boxes, dashed: &[], caption, highlights };
    picture.draw(scale as f32, text_size.clamp(16.0, 96.0))
}

/// An image with all that is drawn on it and below it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Picture<'a> {
    pub image: &'a RgbImage,
    pub solid: &'a [LabelledBox],
    pub dashed: &'a [LabelledBox],
    pub caption: &'a str,
    pub highlights: &'a [Highlight],
}

impl Picture<'_> {
    /// Draws everything, the image enlarged by `scale`, text of `text_size` pixels.
    pub fn draw(&self, scale: f32, text_size: f32) -> RgbImage {
        let scaled = |side: u32| ((side as f32 * scale).round() as u32).max(1);
        let size = (scaled(self.image.width()), scaled(self.image.height()));
        let mut image = if self.image.is_empty() {
            RgbImage::from_pixel(size.0, size.1, WHITE)
        } else {
            resize(self.image, size.0, size.1, FilterType::CatmullRom)
        };
        let width = (text_size / 7.0).round().max(2.0);
        self.draw_boxes(&mut image, self.solid, scale, width, Stroke::Solid);
        self.draw_boxes(&mut image, self.dashed, scale, width, Stroke::Dashed);
        self.draw_tags(&mut image, scale, text_size);
        self.add_caption(&image, text_size)
    }

    fn draw_boxes(&self, image: &mut RgbImage, boxes: &[LabelledBox], scale: f32, width: f32, stroke: Stroke) {
        for (labelled, rect) in visible(boxes, scale, image) {
            // White, as a rim or between dashes, keeps the frame visible on a ground of its own colour.
            match stroke {
                Stroke::Solid => frame(image, &rect.grown(1.0), width + 2.0, Stroke::Solid, WHITE),
                Stroke::Dashed => frame(image, &rect, width, Stroke::Solid, WHITE),
            }
            frame(image, &rect, width, stroke, color(labelled.color));
        }
    }

    /// Draws the tags of the solid boxes, after all frames, where they hide no other tag if there is such a place.
    fn draw_tags(&self, image: &mut RgbImage, scale: f32, text_size: f32) {
        let size = 0.85 * text_size;
        let mut taken: Vec<Rect> = vec![];
        for (labelled, rect) in visible(self.solid, scale, image) {
            let Some(tag) = tag_text(labelled) else { continue };
            let text = Text::line(&tag, size);
            let pad = 0.3 * size;
            let (width, height) = (text.width() + 2.0 * pad, text.height());
            let place = |left: f32, top: f32| {
                let left = left.min(image.width() as f32 - width).max(0.0);
                let top = top.min(image.height() as f32 - height).max(0.0);
                Rect { left, top, right: left + width, bottom: top + height }
            };
            let places = [
                place(rect.left, rect.top - height),
                place(rect.left, rect.bottom),
                place(rect.right - width, rect.top - height),
                place(rect.right - width, rect.bottom),
                place(rect.left, rect.top),
            ];
            let free = |place: &&Rect| !taken.iter().any(|other| other.overlaps(place));
            let at = *places.iter().find(free).unwrap_or(&places[0]);
            let background = color(labelled.color);
            fill(image, &at, background);
            text.draw(image, at.left + pad, at.top, |_| text_on(background));
            taken.push(at);
        }
    }

    /// The image above its caption. A narrow image gets margins, so that the caption has room.
    fn add_caption(&self, image: &RgbImage, text_size: f32) -> RgbImage {
        let pad = (0.5 * text_size).round();
        let width = image.width().max((14.0 * text_size) as u32);
        let text = Text::wrapped(self.caption, text_size, width as f32 - 2.0 * pad);
        let strip = if self.caption.is_empty() { 0.0 } else { text.height() + 2.0 * pad };
        let mut out = RgbImage::from_pixel(width, image.height() + strip as u32, WHITE);
        overlay(&mut out, image, i64::from((width - image.width()) / 2), 0);

        let top = image.height() as f32 + pad;
        for highlight in self.highlights {
            for field in text.fields(pad, top, highlight.span) {
                fill(&mut out, &field, color(highlight.color));
            }
        }
        let over = |index| self.highlights.iter().rfind(|h| (h.span[0]..h.span[1]).contains(&index));
        text.draw(&mut out, pad, top, |index| over(index).map_or(INK, |h| text_on(color(h.color))));
        out
    }
}

/// The boxes that can be drawn, scaled, cut at a margin around the image and at least as large as a dot.
fn visible<'a>(boxes: &'a [LabelledBox], scale: f32, image: &RgbImage) -> Vec<(&'a LabelledBox, Rect)> {
    let (width, height) = (image.width() as f32, image.height() as f32);
    let drawable = boxes.iter().filter(|labelled| labelled.xyxy.iter().all(|v| v.is_finite()));
    let cut = |labelled: &'a LabelledBox| {
        let [x0, y0, x1, y1] = labelled.xyxy.map(|v| v * scale);
        let (left, right) = (x0.min(x1).clamp(0.0, width - 1.0), x0.max(x1).clamp(1.0, width));
        let (top, bottom) = (y0.min(y1).clamp(0.0, height - 1.0), y0.max(y1).clamp(1.0, height));
        let rect = Rect { left, top, right: right.max(left + 1.0), bottom: bottom.max(top + 1.0) };
        (labelled, rect)
    };
    drawable.map(cut).collect()
}

fn tag_text(labelled: &LabelledBox) -> Option<String> {
    match (labelled.label.as_str(), labelled.score) {
        ("", None) => None,
        ("", Some(score)) => Some(format!("{score:.2}")),
        (label, None) => Some(label.to_owned()),
        (label, Some(score)) => Some(format!("{label} {score:.2}")),
    }
}
