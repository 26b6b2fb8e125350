//! Text: measured, wrapped, and drawn in the one font of all pictures.

use std::sync::LazyLock;

use ab_glyph::{Font as _, FontRef, Glyph, GlyphId, PxScale, ScaleFont, point};
use image::{Rgb, RgbImage};

use super::shapes::{Rect, blend};

/// Ubuntu Light, under the Ubuntu font licence, which the crate that embeds it carries.
pub(super) const FONT: &[u8] = epaint_default_fonts::UBUNTU_LIGHT;

static PARSED: LazyLock<FontRef<'static>> =
    LazyLock::new(|| FontRef::try_from_slice(FONT).expect("the embedded font is a TrueType font"));

/// A text in lines, ready to be measured and drawn.
#[derive(Debug)]
pub(super) struct Text {
    /// Pixels from one baseline to the next.
    line_height: f32,
    ascent: f32,
    size: f32,
    lines: Vec<Vec<Placed>>,
}

/// A character on its line.
#[derive(Clone, Copy, Debug)]
struct Placed {
    /// Which code point of the text.
    index: usize,
    glyph: GlyphId,
    blank: bool,
    left: f32,
    right: f32,
}

impl Text {
    /// Lays `text` out in one line of `size` pixels.
    pub fn line(text: &str, size: f32) -> Self {
        Self::wrapped(text, size, f32::INFINITY)
    }

    /// Lays `text` out in lines of at most `width` pixels, broken at spaces, or within a word that is longer than a
    /// line. Control characters are shown as spaces, characters that the font lacks as its empty box.
    pub fn wrapped(text: &str, size: f32, width: f32) -> Self {
        let font = PARSED.as_scaled(PxScale::from(size));
        let mut lines = vec![];
        let mut line: Vec<Placed> = vec![];
        for (index, c) in text.chars().enumerate() {
            let blank = c.is_whitespace() || c.is_control();
            let glyph = font.glyph_id(if blank { ' ' } else { c });
            let left = line.last().map_or(0.0, |last| last.right + font.kern(last.glyph, glyph));
            line.push(Placed { index, glyph, blank, left, right: left + font.h_advance(glyph) });
            // What follows a break at a space may itself be too long: then it is broken again.
            while !blank && line.len() > 1 && line.last().is_some_and(|last| last.right > width) {
                let broken = line.iter().rposition(|placed| placed.blank).map_or(line.len() - 1, |space| space + 1);
                let mut rest = line.split_off(broken);
                let start = rest[0].left;
                for placed in &mut rest {
                    (placed.left, placed.right) = (placed.left - start, placed.right - start);
                }
                lines.push(std::mem::replace(&mut line, rest));
            }
        }
        lines.push(line);
        Self { line_height: (1.35 * size).ceil(), ascent: font.ascent(), size, lines }
    }

    /// The width of the longest line, in pixels.
    pub fn width(&self) -> f32 {
        self.lines.iter().filter_map(|line| line.last()).map(|last| last.right).fold(0.0, f32::max)
    }

    /// The height of all lines, in pixels.
    pub fn height(&self) -> f32 {
        self.line_height * self.lines.len() as f32
    }

    /// Draws the text with its upper left corner at (`x`, `y`), code point `i` in the colour `color(i)`.
    pub fn draw(&self, image: &mut RgbImage, x: f32, y: f32, color: impl Fn(usize) -> Rgb<u8>) {
        let lead = (self.line_height - 1.12 * self.size) / 2.0;
        for (row, line) in self.lines.iter().enumerate() {
            let baseline = (y + row as f32 * self.line_height + lead + self.ascent).round();
            for placed in line {
                let position = point(x + placed.left, baseline);
                let glyph = Glyph { id: placed.glyph, scale: PxScale::from(self.size), position };
                if let Some(outline) = PARSED.outline_glyph(glyph) {
                    let corner = outline.px_bounds().min;
                    outline.draw(|dx, dy, coverage| {
                        let (px, py) = (corner.x as i64 + i64::from(dx), corner.y as i64 + i64::from(dy));
                        blend(image, px, py, color(placed.index), coverage);
                    });
                }
            }
        }
    }

    /// The fields behind the code points `span`, one on each line that they lie on, of the text at (`x`, `y`).
    pub fn fields(&self, x: f32, y: f32, span: [usize; 2]) -> Vec<Rect> {
        let pad = 0.04 * self.size;
        let inside = |placed: &&Placed| (span[0]..span[1]).contains(&placed.index);
        let field = |(row, line): (usize, &Vec<Placed>)| {
            let (first, last) = (line.iter().find(inside)?, line.iter().rfind(inside)?);
            let top = y + row as f32 * self.line_height;
            Some(Rect {
                left: x + first.left - pad,
                top: top + 0.06 * self.line_height,
                right: x + last.right + pad,
                bottom: top + 0.94 * self.line_height,
            })
        };
        self.lines.iter().enumerate().filter_map(field).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rows(text: &Text) -> Vec<Vec<usize>> {
        text.lines.iter().map(|line| line.iter().map(|placed| placed.index).collect()).collect()
    }

    #[test]
    fn lines_break_at_spaces_and_within_long_words() {
        let width = |text| Text::line(text, 20.0).width();
        let lengths = |text, width| rows(&Text::wrapped(text, 20.0, width)).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(lengths("a dog and a bus", width("a dog and")), [10, 5]);
        assert_eq!(lengths("a dog\nand a bus", width("a dog and")), [10, 5]);
        assert_eq!(lengths("mmmm", width("mm") + 0.1), [2, 2]);
        assert_eq!(lengths("", 10.0), [0]);
        assert_eq!(lengths("abc", 0.0), [1, 1, 1]);
    }

    #[test]
    fn characters_that_the_font_lacks_show_as_boxes() {
        let mut image = RgbImage::from_pixel(40, 40, Rgb([255; 3]));
        Text::line("🐶", 24.0).draw(&mut image, 4.0, 4.0, |_| Rgb([0; 3]));
        assert!(image.pixels().any(|pixel| pixel.0[0] < 128));
    }

    proptest! {
        #[test]
        fn every_character_is_on_one_line_within_the_width(text in "\\PC{0,60}|[a-z ]{0,80}", width in 1.0..300.0_f32) {
            let wrapped = Text::wrapped(&text, 16.0, width);
            let all: Vec<usize> = rows(&wrapped).concat();
            prop_assert_eq!(all, (0..text.chars().count()).collect::<Vec<_>>());
            for line in &wrapped.lines {
                let visible = line.iter().rposition(|placed| !placed.blank);
                prop_assert!(visible.is_none_or(|at| at == 0 || line[at].right <= width));
            }
        }
    }
}
