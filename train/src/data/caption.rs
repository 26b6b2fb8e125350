//! Captions of mirrored images: "left" becomes "right" and the spans move along.
//!
//! The published transform swaps substrings, so that "bright" becomes "bleft", and leaves the spans where they were.

use super::Span;

/// A caption with the words left, right, leftmost and rightmost exchanged, capitals kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirroredCaption {
    /// The new text.
    pub text: String,
    /// Where each boundary between code points of the old caption lies in the new one.
    boundaries: Vec<usize>,
}

impl MirroredCaption {
    /// Mirrors `caption`.
    pub fn new(caption: &str) -> Self {
        let mut mirrored = Self { text: String::new(), boundaries: vec![0] };
        let mut word = String::new();
        for c in caption.chars() {
            if c.is_alphanumeric() {
                word.push(c);
            } else {
                mirrored.push(&std::mem::take(&mut word));
                mirrored.push(c.encode_utf8(&mut [0; 4]));
            }
        }
        mirrored.push(&word);
        mirrored
    }

    /// The span of the same words in the new caption.
    pub fn span(&self, span: Span) -> Span {
        span.map(|boundary| self.boundaries[boundary.min(self.boundaries.len() - 1)])
    }

    fn push(&mut self, word: &str) {
        let start = self.boundaries[self.boundaries.len() - 1];
        let (old_length, new) = (word.chars().count(), mirrored_word(word));
        let new_length = new.chars().count();
        self.boundaries.extend((1..old_length).map(|at| start + at.min(new_length)));
        if old_length > 0 {
            self.boundaries.push(start + new_length);
        }
        self.text.push_str(&new);
    }
}

fn mirrored_word(word: &str) -> String {
    let swapped = match word.to_lowercase().as_str() {
        "left" => "right",
        "right" => "left",
        "leftmost" => "rightmost",
        "rightmost" => "leftmost",
        _ => return word.to_owned(),
    };
    if word.chars().all(char::is_uppercase) {
        return swapped.to_uppercase();
    }
    if word.starts_with(char::is_uppercase) {
        return swapped[..1].to_uppercase() + &swapped[1..];
    }
    swapped.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_swapped_whole_and_spans_follow() {
        let cases: [(&str, &str, Span, Span); 8] = [
            ("left", "right", [0, 4], [0, 5]),
            ("Left and RIGHT", "Right and LEFT", [9, 14], [10, 14]),
            ("leftright", "leftright", [0, 9], [0, 9]),
            ("the left man, a bright dog", "the right man, a bright dog", [16, 26], [17, 27]),
            ("right-most é left cat", "left-most é right cat", [18, 21], [18, 21]),
            ("right 😀 of", "left 😀 of", [6, 7], [5, 6]),
            ("the leftmost sign", "the rightmost sign", [4, 17], [4, 18]),
            ("", "", [0, 0], [0, 0]),
        ];
        for (caption, text, span, moved) in cases {
            let mirrored = MirroredCaption::new(caption);
            assert_eq!((mirrored.text.as_str(), mirrored.span(span)), (text, moved), "{caption}");
            assert_eq!(MirroredCaption::new(text).text, caption, "twice is the same");
        }
    }
}
