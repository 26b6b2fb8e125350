//! Captions that are longer than the model reads: what would be lost of them, and how they are split.
//!
//! A part is as long as fits, and ends at the last end of a sentence in it, or else the last comma, or else the last
//! space. Parts are encoded apart: a word sees those of its own part.

use anyhow::{Result, ensure};

use crate::data::{Encoding, Span, Tokenizer};

/// Where a caption may be split, the best kind first.
const BREAKS: [fn(&[char], usize) -> bool; 3] = [ends_sentence, ends_clause, ends_word];

/// Code points of the parts of `caption`, each of at most `limit` tokens, without the white space between them.
///
/// Errors: a word does not fit.
pub fn chunks(caption: &str, tokenizer: &Tokenizer, limit: usize) -> Result<Vec<Span>> {
    let chars: Vec<char> = caption.chars().collect();
    let encode = |[begin, end]: Span| tokenizer.encode(&chars[begin..end].iter().collect::<String>());
    let mut parts = Vec::new();
    let mut rest = trimmed(&chars, [0, chars.len()]);
    while rest[0] < rest[1] {
        let encoding = encode(rest);
        // The last token is </s>, which takes a place too.
        let fits = match encoding.ids.len() <= limit {
            true => rest[1],
            false => rest[0] + encoding.offsets[limit.saturating_sub(1)][0],
        };
        let may_end = |is_break: &fn(&[char], usize) -> bool| {
            let ends = (rest[0] + 1..=fits).rev().filter(|&end| is_break(&chars, end));
            ends.map(|end| [rest[0], end]).find(|&part| encode(part).ids.len() <= limit)
        };
        let part = if fits == rest[1] { Some(rest) } else { BREAKS.iter().find_map(may_end) };
        let start: String = chars[rest[0]..rest[1]].iter().take(40).collect();
        ensure!(
            part.is_some(),
            "no space in the first {limit} tokens of {start:?}: the caption cannot be split there"
        );
        parts.extend(part.map(|part| trimmed(&chars, part)));
        rest = trimmed(&chars, [part.map_or(rest[1], |part| part[1]), rest[1]]);
    }
    Ok(parts)
}

/// Which words of a caption do not fit into `limit` tokens, if any.
pub fn lost_words(caption: &str, encoding: &Encoding, limit: usize) -> Option<String> {
    const QUOTED: usize = 60;
    let tokens = encoding.ids.len();
    if tokens <= limit {
        return None;
    }
    let chars: Vec<char> = caption.chars().collect();
    let lost = encoding.offsets[limit.saturating_sub(1)][0];
    let is_start = |at: &usize| !chars[*at].is_whitespace() && (*at == 0 || chars[at - 1].is_whitespace());
    let starts: Vec<usize> = (0..chars.len()).filter(is_start).take_while(|&start| start <= lost).collect();
    let from = starts.last().copied().unwrap_or(0);
    let lost_tokens = encoding.offsets.iter().filter(|[begin, end]| begin < end && *begin >= from).count();
    let more = if chars.len() > from + QUOTED { " ..." } else { "" };
    let words: String = chars[from..].iter().take(QUOTED).collect();
    Some(format!(
        "the caption has {tokens} tokens, at most {limit} can be grounded: from word {} on, {:?}{more}, {lost_tokens} tokens \
         fall out",
        starts.len().max(1),
        words.trim_end()
    ))
}

/// A span without the white space at its ends.
fn trimmed(chars: &[char], [begin, end]: Span) -> Span {
    let is_blank = |at: &usize| chars[*at].is_whitespace();
    let begin = (begin..end).find(|at| !is_blank(at)).unwrap_or(end);
    [begin, (begin..end).rfind(|at| !is_blank(at)).map_or(begin, |last| last + 1)]
}

/// Whether a sentence ends before `end`: at a full stop and the like, with quotes and brackets behind them, or at a line's
/// end.
fn ends_sentence(chars: &[char], end: usize) -> bool {
    let closes = |c: &&char| matches!(c, '"' | '\'' | ')' | ']' | '”' | '’' | '»');
    let last = chars[..end].iter().rev().find(|c| !closes(c));
    match last {
        Some('。' | '！' | '？') => true,
        Some('.' | '!' | '?' | '…') => ends_word(chars, end),
        _ => chars.get(end) == Some(&'\n'),
    }
}

fn ends_clause(chars: &[char], end: usize) -> bool {
    match chars[end - 1] {
        '，' | '、' | '；' | '：' => true,
        ',' | ';' | ':' => ends_word(chars, end),
        _ => false,
    }
}

fn ends_word(chars: &[char], end: usize) -> bool {
    chars.get(end).is_none_or(|c| c.is_whitespace()) && !chars[end - 1].is_whitespace()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parts at a limit of `limit` tokens, `<s>` and `</s>` included.
    fn split(caption: &str, limit: usize) -> Vec<String> {
        let parts = chunks(caption, &Tokenizer::roberta_base(), limit).unwrap();
        parts.iter().map(|[begin, end]| caption.chars().skip(*begin).take(end - begin).collect()).collect()
    }

    #[test]
    fn captions_are_split_at_the_best_place_that_fits() {
        for (caption, limit, parts) in [
            ("a dog. a cat. a bus.", 7, vec!["a dog.", "a cat.", "a bus."]),
            ("a dog. a cat. a bus.", 8, vec!["a dog. a cat.", "a bus."]),
            ("A dog (old.) A cat", 8, vec!["A dog (old.)", "A cat"]),
            ("a red dog, a cat and a bus", 8, vec!["a red dog,", "a cat and a bus"]),
            ("a dog of 3.5 years", 6, vec!["a dog of", "3.5 years"]),
            ("a dog and a cat", 5, vec!["a dog and", "a cat"]),
            ("a dog\na cat and", 7, vec!["a dog", "a cat and"]),
            ("  a dog  ", 4, vec!["a dog"]),
            ("   ", 3, vec![]),
            ("café 😀 and a\u{301} dog", 8, vec!["café 😀 and", "a\u{301} dog"]),
            ("狗。猫。", 7, vec!["狗。", "猫。"]),
        ] {
            assert_eq!(split(caption, limit), parts, "{caption:?} at {limit}");
        }
        let error = chunks("a supercalifragilistic dog", &Tokenizer::roberta_base(), 5).unwrap_err().to_string();
        assert!(error.contains("supercali"), "{error}");
    }

    #[test]
    fn every_part_fits_and_nothing_but_space_is_lost() {
        let tokenizer = Tokenizer::roberta_base();
        let caption = "the quick brown 🦊, who's very quick; jumps over a lazy dog! ".repeat(20);
        let parts = chunks(&caption, &tokenizer, 30).unwrap();
        let chars: Vec<char> = caption.chars().collect();
        let text = |span: &Span| chars[span[0]..span[1]].iter().collect::<String>();
        assert!(parts.iter().all(|part| tokenizer.encode(&text(part)).ids.len() <= 30));
        let kept: String = parts.iter().map(text).collect();
        let dense = |text: &str| text.split_whitespace().collect::<String>();
        assert_eq!(dense(&kept), dense(&caption));
        assert!(parts.iter().all(|part| text(part).ends_with('!')), "{parts:?}");
    }

    #[test]
    fn lost_words_are_counted_and_quoted() {
        let tokenizer = Tokenizer::roberta_base();
        let lost = |caption: &str, limit| lost_words(caption, &tokenizer.encode(caption), limit);
        assert_eq!(lost("a dog and a cat", 7), None);
        let message = lost("a dog and a cat", 6).unwrap();
        assert!(
            message.contains("7 tokens, at most 6") && message.contains("word 5 on, \"cat\", 1 tokens"),
            "{message}"
        );
        // The word is lost from its first token on, though that one would fit.
        let message = lost("a supercalifragilistic dog", 5).unwrap();
        assert!(message.contains("word 2 on, \"supercalifragilistic dog\""), "{message}");
        let message = lost(&"word ".repeat(300), 255).unwrap();
        assert!(
            message.contains("from word 254 on, \"word word") && message.contains("\" ..., 47 tokens"),
            "{message}"
        );
    }
}
