//! Text that is broken on purpose: any answer will do, a panic or a tree with loose ends will not.
//! `PROPTEST_CASES=100000 cargo test -p mdetr-simulator --test parser mutations` looks longer.

use std::sync::LazyLock;

use mdetr_simulator::ptx::parse;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::{SAMPLES, kernel, tree};

/// Rare constructs, so that mutations meet them too.
const RARE: &str = "
.func (.param .b32 r) f(.param .b32 a, .param .b32 b) .noreturn;
.global .align 8 .b32 grid[2][3] = {{1, 2}, {3, 0f3F800000}}, open[] = {1, 2};
.global .v4 .f32 v = {1.0, 2.5e-3, 0f00000000};
.section .debug_info { .b8 1 { } .b32 $L+4 }
.entry j .reqntid 16, 4 {
 .reg .pred p, q; .reg .b64 %rd<10>, t;
 mov.b64 {t, _}, {0b11U, -0x7F}; setp.eq.and.f64 p|q, 1.5, %rd1, !p;
 { .reg .b32 t; @!q bra end; list: .branchtargets end, last; brx.idx t, list; { end: ret; } end: }
 call (t), f, (0, t); call %rd2, (1), proto; proto: .callprototype _ (.param .b32 _);
 ld.shared::cta.v2.b64 {t, %rd9}, [%rd8+-16]; cp.async.bulk.tensor.1d [%rd1, {t}], [f+8];
 st.b64 [16], WARP_SZ; mov.u32 t, %tid.x; .loc 1 2 3, function_name s+4, inlined_at 1 2 3
last: }";

static TEXTS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let rare = kernel("ret;") + RARE;
    assert_eq!(parse(&rare).map(drop), Ok(()));
    SAMPLES.iter().map(|&sample| sample.to_owned()).chain([rare]).collect()
});

/// The pieces of all texts: words with their first character, punctuation, white space.
static PIECES: LazyLock<Vec<Vec<&'static str>>> = LazyLock::new(|| {
    let starts_piece = |c: char| !c.is_ascii_alphanumeric() && c != '_';
    let split = |text: &'static str| {
        let mut starts: Vec<_> = text.char_indices().filter(|&(_, c)| starts_piece(c)).map(|(at, _)| at).collect();
        starts.insert(0, 0);
        starts.push(text.len());
        starts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect()
    };
    TEXTS.iter().map(|text| split(text)).collect()
});

fn survive(text: &str) {
    match parse(text) {
        Ok(module) => tree::check(&module),
        Err(error) => assert!(error.line as usize <= text.lines().count() + 1 && !error.message.is_empty()),
    }
}

#[derive(Clone, Debug)]
enum Edit {
    Delete(Index),
    Repeat(Index, usize),
    Move(Index, Index),
    Insert(Index, &'static str),
    End(Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    let odd = ["{", "}", "(", ")", "[", "]", "<4294967295>", ";", ":", "|", "@", "\"", "/*", "é", "-", "+", ",", "."];
    let odd_numbers =
        ["0", "9999999999999999999999", "18446744073709551615", "0f12", "1e999", "-9223372036854775808"];
    let odd = odd.into_iter().chain(odd_numbers).collect::<Vec<_>>();
    prop_oneof![
        4 => any::<Index>().prop_map(Edit::Delete),
        2 => (any::<Index>(), 1..100_usize).prop_map(|(at, times)| Edit::Repeat(at, times)),
        4 => (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Edit::Move(from, to)),
        4 => (any::<Index>(), select(odd)).prop_map(|(at, text)| Edit::Insert(at, text)),
        1 => any::<Index>().prop_map(Edit::End),
    ]
}

proptest! {
    #[test]
    fn edited_pieces(sample in 0..4_usize, edits in vec(edit(), 1..4)) {
        let mut pieces = PIECES[sample].clone();
        for edit in edits {
            let size = pieces.len();
            match edit {
                Edit::Delete(at) => pieces[at.index(size)] = "",
                Edit::Repeat(at, times) => {
                    let at = at.index(size);
                    pieces.splice(at..at, vec![pieces[at]; times]);
                }
                Edit::Move(from, to) => pieces[to.index(size)] = pieces[from.index(size)],
                Edit::Insert(at, text) => pieces.insert(at.index(size), text),
                Edit::End(at) => pieces.truncate(at.index(size).max(1)),
            }
        }
        survive(&pieces.concat());
    }

    #[test]
    fn changed_bytes(sample in 0..4_usize, changes in vec((any::<Index>(), any::<u8>()), 1..8)) {
        let mut bytes = TEXTS[sample].clone().into_bytes();
        for (at, byte) in changes {
            *at.get_mut(&mut bytes) = byte;
        }
        survive(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn shuffled_pieces(sample in 0..4_usize, places in vec(any::<Index>(), 0..200)) {
        let soup: String = places.iter().map(|at| *at.get(&PIECES[sample])).collect();
        survive(&kernel(&soup));
        survive(&soup);
    }
}

/// Depth and length come from the text, not from the machine's stack.
#[test]
fn endless_repetition() {
    let openings =
        ["{", "[", "(", "mov.b32 {", "a:", "@", "!", "-", "/*", ".loc 1 1 1,", "bra x;", "{x: bra x;", "mov x, (("];
    let outside = ["[1]", "{", ".entry k(", ".global .b8 x[1] = {{", ".global .b8 x[1", ".section .s {", ".reg"];
    for text in openings {
        survive(&kernel(&text.repeat(20_000)));
    }
    for text in outside {
        survive(&(kernel("") + &text.repeat(20_000)));
        survive(&(kernel("") + ".global .b8 x" + &text.repeat(20_000)));
    }
}
