use crate::{golden_json, tiny_tokenizer};
use mdetr_train::data::positive_map::{soft_tokens, span_tokens, span_tokens_by_first_caption};
use mdetr_train::data::{Encoding, Tokenizer};
use serde::Deserialize;

#[derive(Deserialize)]
struct Recorded {
    tokenizer: String,
    caption: String,
    maps: Vec<Map>,
}

#[derive(Deserialize)]
struct Map {
    spans: Vec<[i64; 2]>,
    nonzero: Option<Vec<usize>>,
}

/// The published columns, and those that it leaves out of a last character of several tokens.
fn mended(encoding: &Encoding, spans: &[[usize; 2]], mut published: Vec<usize>) -> Vec<usize> {
    for &[_, end] in spans {
        let last = end.wrapping_sub(1);
        if let (Some(first), Some(last)) = (encoding.char_to_token(last), encoding.char_to_last_token(last)) {
            published.extend((first + 1..=last).filter(|&token| token < 256));
        }
    }
    published.sort_unstable();
    published.dedup();
    published
}

#[test]
fn soft_tokens_are_the_published_columns_with_whole_last_characters() {
    let mut mended_rows: Vec<(String, Vec<[usize; 2]>, Vec<usize>)> = Vec::new();
    for case in golden_json::<Vec<Recorded>>("positive_map/positive_map.json") {
        let tokenizer = if case.tokenizer == "tiny" { tiny_tokenizer() } else { Tokenizer::roberta_base() };
        let encoding = tokenizer.encode(&case.caption);
        for map in case.maps {
            // A negative span cannot be written down as a `Span`: annotation files that hold one are refused.
            let Some(published) = map.nonzero else { continue };
            let spans: Vec<[usize; 2]> =
                map.spans.iter().map(|span| span.map(|at| usize::try_from(at).unwrap())).collect();
            let expected = mended(&encoding, &spans, published.clone());
            assert_eq!(soft_tokens(&encoding, &spans), expected, "{}, {:?}, {spans:?}", case.tokenizer, case.caption);
            if expected != published {
                mended_rows.push((case.tokenizer.clone(), spans, expected));
            }
        }
    }
    // What follows the first token of the last character of "café" and of the emoji in "café 😀 x".
    let row =
        |name: &str, span, tokens: std::ops::RangeInclusive<usize>| (name.to_owned(), vec![span], tokens.collect());
    assert_eq!(mended_rows, [row("tiny", [0, 4], 1..=4), row("tiny", [5, 6], 6..=9), row("roberta", [5, 6], 4..=5)]);
}

#[test]
fn alignment_tokens_go_past_the_soft_token_map() {
    let caption = "word ".repeat(300);
    let encoding = Tokenizer::roberta_base().encode(&caption);
    let span = [[5 * 299, 5 * 299 + 4]];
    assert_eq!((soft_tokens(&encoding, &span), span_tokens(&encoding, &span)), (vec![], vec![300]));
}

/// The captions and spans of the recorded case `tiny/align_fallback`, whose alignment loss these tokens give.
#[test]
fn the_published_fall_back_looks_into_the_first_caption() {
    let tokenizer = tiny_tokenizer();
    let first =
        tokenizer.encode("a man in a blue shirt sits on the left of the wooden chair holding a small dog, smiling.");
    let second = tokenizer.encode("two dogs run near the water under the tree");
    type Case<'a> = (&'a Encoding, &'a [[usize; 2]], &'a [usize], &'a [usize]);
    let cases: [Case; 8] = [
        (&first, &[[1, 5]], &[2], &[2]),
        (&first, &[[0, 5], [20, 25]], &[1, 2, 6, 7], &[1, 2, 6, 7]),
        (&first, &[[5, 6]], &[], &[]),
        (&second, &[[3, 8]], &[2], &[2]),
        (&second, &[[8, 12]], &[3, 4], &[4]),
        (&second, &[[8, 13]], &[3, 4], &[4, 5]),
        (&second, &[[12, 13]], &[], &[5]),
        (&second, &[[3, 4]], &[], &[2]),
    ];
    for (encoding, spans, mended, published) in cases {
        assert_eq!(span_tokens(encoding, spans), mended, "{spans:?}");
        assert_eq!(span_tokens_by_first_caption(encoding, &first, spans), published, "{spans:?}, published");
    }
}
