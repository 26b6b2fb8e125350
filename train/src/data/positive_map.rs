//! From the caption spans that name a box to the tokens that it should be matched with.
//!
//! A span covers the tokens from that of its first character to that of its last. A space belongs to no token: the search
//! then tries the next two characters, or the previous two at the end. The soft-token loss (MDETR, section 2.2.2) knows
//! the first 256 tokens; the contrastive alignment loss (section 2.2.3) knows all.

use super::{Encoding, Span};
use std::collections::BTreeSet;

/// Columns of the soft-token map. The last is the no-object class too, so captions have 255 usable tokens, as published.
pub const SOFT_TOKENS: usize = 256;
/// Tokens of a caption that words can be tied to.
pub const USABLE_TOKENS: usize = SOFT_TOKENS - 1;

/// Columns of the soft-token map that the spans of a box cover: ascending, below [`SOFT_TOKENS`].
pub fn soft_tokens(encoding: &Encoding, spans: &[Span]) -> Vec<usize> {
    span_tokens(encoding, spans).into_iter().filter(|&token| token < SOFT_TOKENS).collect()
}

/// Tokens that the spans of a box cover, ascending: the positives of the contrastive alignment loss.
///
/// A last character of several tokens is covered whole; the published code takes only the first of them.
pub fn span_tokens(encoding: &Encoding, spans: &[Span]) -> Vec<usize> {
    union(spans, |[begin, end]| {
        let first = (0..3).find_map(|step| encoding.char_to_token(begin + step));
        let last = (1..4).find_map(|step| encoding.char_to_last_token(end.checked_sub(step)?));
        (first, last)
    })
}

/// [`span_tokens`] with the published loss's defects, for reproducing its numbers: a span that starts or ends on a space is
/// looked up in `first`, the caption of the batch's first image, and a last character counts by its first token.
pub fn span_tokens_by_first_caption(encoding: &Encoding, first: &Encoding, spans: &[Span]) -> Vec<usize> {
    let in_first = |code_point: Option<usize>| first.char_to_token(code_point?);
    union(spans, |[begin, end]| {
        let begin_token =
            encoding.char_to_token(begin).or_else(|| (1..3).find_map(|step| in_first(Some(begin + step))));
        let end_token = end.checked_sub(1).and_then(|last| encoding.char_to_token(last));
        (begin_token, end_token.or_else(|| (2..4).find_map(|step| in_first(end.checked_sub(step)))))
    })
}

fn union(spans: &[Span], ends: impl Fn(Span) -> (Option<usize>, Option<usize>)) -> Vec<usize> {
    let mut tokens = BTreeSet::new();
    for &span in spans {
        if let (Some(first), Some(last)) = ends(span) {
            tokens.extend(first..=last);
        }
    }
    tokens.into_iter().collect()
}
