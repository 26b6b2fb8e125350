//! Colours for people of any colour vision.

use image::Rgb;

/// The colours of Okabe and Ito (2008), strongest first, with a grey for black; yellow is left out, which vanishes on
/// white.
const PALETTE: [Rgb<u8>; 7] = [
    Rgb([0, 114, 178]),
    Rgb([213, 94, 0]),
    Rgb([0, 158, 115]),
    Rgb([204, 121, 167]),
    Rgb([230, 159, 0]),
    Rgb([86, 180, 233]),
    Rgb([85, 85, 85]),
];

pub(super) const WHITE: Rgb<u8> = Rgb([255, 255, 255]);
pub(super) const INK: Rgb<u8> = Rgb([30, 34, 40]);

/// The colour of phrase, class or curve `index`: colours that a colour-blind reader can tell apart; from 7 on they
/// repeat.
pub fn color(index: usize) -> Rgb<u8> {
    PALETTE[index % PALETTE.len()]
}

/// Black or white, whichever is easier to read on `background`.
pub(super) fn text_on(background: Rgb<u8>) -> Rgb<u8> {
    let [r, g, b] = background.0.map(f32::from);
    if 0.299 * r + 0.587 * g + 0.114 * b > 150.0 { INK } else { WHITE }
}
