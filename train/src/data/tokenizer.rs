//! The byte-level BPE tokenizer of RoBERTa (Radford et al., 2019; Liu et al., arXiv 1907.11692).
//!
//! A text is cut at special tokens, then into words by GPT-2's pattern; the UTF-8 bytes of a word are its first symbols,
//! and the pair of neighbours with the lowest rank is merged until no pair has one.

use super::Span;
use anyhow::{Context, Result, ensure};
use regex::Regex;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, LazyLock};

/// GPT-2's pattern without its look-ahead `\s+(?!\S)`, which [`word_end`] applies.
const WORD: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+";
/// Special tokens inside a text; `<mask>` takes the white space before it.
const SPECIAL: &str = r"\s*(<mask>)|(<s>|<pad>|</s>|<unk>)";

static WORD_PATTERN: LazyLock<Regex> = LazyLock::new(|| Regex::new(WORD).expect("a valid pattern"));
static SPECIAL_PATTERN: LazyLock<Regex> = LazyLock::new(|| Regex::new(SPECIAL).expect("a valid pattern"));
static ROBERTA_BASE: LazyLock<Arc<Tokenizer>> = LazyLock::new(|| {
    let vocab = include_bytes!("../../assets/roberta-base/vocab.json");
    let merges = include_str!("../../assets/roberta-base/merges.txt");
    Arc::new(Tokenizer::parse(vocab, merges).expect("the embedded vocabulary is whole"))
});

/// A byte-level BPE vocabulary with its merge ranks.
#[derive(Debug)]
pub struct Tokenizer {
    special: HashMap<String, i32>,
    /// Token of each single byte.
    bytes: Vec<i32>,
    /// Neighbouring tokens to (rank, merged token).
    merges: HashMap<(i32, i32), (usize, i32)>,
    vocab_size: usize,
}

/// The tokens of one caption, `<s>` and `</s>` included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoding {
    /// Token ids.
    pub ids: Vec<i32>,
    /// Code points that each token covers, white space trimmed; `[0, 0]` for the added `<s>` and `</s>`.
    pub offsets: Vec<Span>,
}

impl Encoding {
    /// The first token that covers a code point; none for a space and past the end.
    pub fn char_to_token(&self, code_point: usize) -> Option<usize> {
        self.offsets.iter().position(|&span| covers(span, code_point))
    }

    /// The last token that covers a code point: another one than the first where a character is cut into several tokens.
    pub fn char_to_last_token(&self, code_point: usize) -> Option<usize> {
        self.offsets.iter().rposition(|&span| covers(span, code_point))
    }
}

fn covers([begin, end]: Span, code_point: usize) -> bool {
    begin <= code_point && code_point < end
}

impl Tokenizer {
    /// The vocabulary of roberta-base (50,265 tokens), which is part of the program.
    pub fn roberta_base() -> Arc<Self> {
        ROBERTA_BASE.clone()
    }

    /// Reads `vocab.json` (token to id) and `merges.txt` (a pair a line, best first).
    ///
    /// Errors name the file, and the line where there is one.
    pub fn from_files(vocab: &Path, merges: &Path) -> Result<Self> {
        let read = |path: &Path| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        let merges_text = String::from_utf8(read(merges)?).with_context(|| format!("{}", merges.display()))?;
        Self::parse(&read(vocab)?, &merges_text)
            .with_context(|| format!("tokenizer of {} and {}", vocab.display(), merges.display()))
    }

    fn parse(vocab: &[u8], merges: &str) -> Result<Self> {
        let vocab: HashMap<String, i32> =
            serde_json::from_slice(vocab).context("the vocabulary: expected one JSON object, token to id")?;
        let id = |token: &str| vocab.get(token).copied().with_context(|| format!("the vocabulary lacks {token:?}"));
        let special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"].map(|token| Ok((token.to_owned(), id(token)?)));
        let bytes = (0..=255).map(|byte| id(&byte_symbol(byte).to_string()));
        let pairs = merges.lines().enumerate().filter(|(_, line)| !line.starts_with("#version") && !line.is_empty());
        let merges = pairs.map(|(row, line)| {
            let place = || format!("merges, line {}: {line:?}", row + 1);
            let (left, right) =
                line.split_once(' ').context("expected two symbols and a space").with_context(place)?;
            let merged = id(&format!("{left}{right}")).with_context(place)?;
            Ok(((id(left).with_context(place)?, id(right).with_context(place)?), (row, merged)))
        });
        ensure!(vocab.values().all(|&id| id >= 0), "the vocabulary has a negative id");
        let vocab_size = vocab.values().max().map_or(0, |&id| id as usize + 1);
        let (special, bytes, merges) = (
            special.into_iter().collect::<Result<_>>()?,
            bytes.collect::<Result<_>>()?,
            merges.collect::<Result<_>>()?,
        );
        Ok(Self { special, bytes, merges, vocab_size })
    }

    /// Rows that an embedding needs: one more than the largest id.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The id that fills a batch's shorter captions (`<pad>`).
    pub fn pad_id(&self) -> i32 {
        self.special["<pad>"]
    }

    /// `<s>`, the tokens of `text`, `</s>`. Special tokens written in the text are taken as such. Nothing is truncated.
    pub fn encode(&self, text: &str) -> Encoding {
        let code_points: Vec<usize> =
            text.chars().enumerate().flat_map(|(index, c)| std::iter::repeat_n(index, c.len_utf8())).collect();
        let mut encoding = Encoding { ids: vec![self.special["<s>"]], offsets: vec![[0, 0]] };
        let mut done = 0;
        for found in SPECIAL_PATTERN.captures_iter(text) {
            let (whole, token) = (found.get_match(), found.get(1).or(found.get(2)).expect("one group matches"));
            self.encode_plain(text, done..whole.start(), &code_points, &mut encoding);
            encoding.ids.push(self.special[token.as_str()]);
            encoding.offsets.push([code_points[token.start()], code_points[token.end() - 1] + 1]);
            done = whole.end();
        }
        self.encode_plain(text, done..text.len(), &code_points, &mut encoding);
        encoding.ids.push(self.special["</s>"]);
        encoding.offsets.push([0, 0]);
        encoding
    }

    /// Appends the tokens of a part of the text that holds no special token.
    fn encode_plain(&self, text: &str, part: std::ops::Range<usize>, code_points: &[usize], encoding: &mut Encoding) {
        let mut start = part.start;
        while start < part.end {
            let end = start + word_end(&text[start..part.end]);
            for (id, length) in self.merge(&text.as_bytes()[start..end]) {
                let bytes = &text.as_bytes()[start..start + length];
                encoding.ids.push(id);
                encoding.offsets.push(trimmed(bytes, [code_points[start], code_points[start + length - 1] + 1]));
                start += length;
            }
        }
    }

    /// (token, number of bytes) of a word, left to right.
    fn merge(&self, word: &[u8]) -> Vec<(i32, usize)> {
        let mut symbols: Vec<(i32, usize)> = word.iter().map(|&byte| (self.bytes[usize::from(byte)], 1)).collect();
        let best = |symbols: &[(i32, usize)]| {
            let ranked = symbols.windows(2).enumerate();
            ranked
                .filter_map(|(at, pair)| self.merges.get(&(pair[0].0, pair[1].0)).map(|&(rank, id)| (rank, at, id)))
                .min()
        };
        while let Some((_, at, id)) = best(&symbols) {
            let (_, length) = symbols.remove(at + 1);
            symbols[at] = (id, symbols[at].1 + length);
        }
        symbols
    }
}

/// Bytes of the first word of a text that is not empty. A run of white space leaves its last character to the word
/// that follows it.
fn word_end(text: &str) -> usize {
    let word = WORD_PATTERN.find(text).expect("every character is in a class of the pattern").as_str();
    let last = word.chars().next_back().map_or(0, char::len_utf8);
    let gives_back = word.len() < text.len() && word.len() > last && word.chars().all(char::is_whitespace);
    if gives_back { word.len() - last } else { word.len() }
}

/// A token's span without the spaces at its ends.
fn trimmed(bytes: &[u8], [begin, end]: Span) -> Span {
    let leading = bytes.iter().take_while(|&&byte| byte == b' ').count();
    let trailing = bytes.iter().rev().take_while(|&&byte| byte == b' ').count();
    let begin = (begin + leading).min(end);
    [begin, (end - trailing).max(begin)]
}

/// The printable character that stands for a byte in the vocabulary: itself, or the next one from U+0100 on.
fn byte_symbol(byte: u8) -> char {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..);
    if printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|&other| !printable(other)).count() as u32;
    char::from_u32(256 + before).expect("a code point below 512")
}
