use crate::{golden, golden_json, tiny_tokenizer};
use mdetr_train::data::Tokenizer;
use serde::Deserialize;

#[derive(Deserialize)]
struct Recorded {
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    text: String,
    ids: Vec<i32>,
    offsets: Vec<[usize; 2]>,
    char_to_token: Vec<Option<usize>>,
}

fn check(tokenizer: &Tokenizer, name: &str) {
    let Recorded { rows } = golden_json(name);
    assert_eq!(rows.len(), 201);
    for row in rows {
        let encoding = tokenizer.encode(&row.text);
        assert_eq!(encoding.ids, row.ids, "{:?}", row.text);
        assert_eq!(encoding.offsets, row.offsets, "{:?}", row.text);
        let tokens: Vec<_> = (0..row.text.chars().count()).map(|c| encoding.char_to_token(c)).collect();
        assert_eq!(tokens, row.char_to_token, "{:?}", row.text);
    }
}

#[test]
fn encodings_are_the_reference_tokenizers() {
    let tiny = tiny_tokenizer();
    assert_eq!((tiny.vocab_size(), tiny.pad_id()), (622, 1));
    check(&tiny, "tokenizer/encodings_tiny.json");
    assert_eq!(Tokenizer::roberta_base().vocab_size(), 50265);
    check(&Tokenizer::roberta_base(), "tokenizer/encodings_roberta.json");
}

#[test]
fn broken_vocabularies_are_explained() {
    let folder = tempfile::tempdir().unwrap();
    let merges = folder.path().join("merges.txt");
    let vocab = golden("tokenizer/vocab.json");
    let error = |text: &str| {
        std::fs::write(&merges, text).unwrap();
        format!("{:#}", Tokenizer::from_files(&vocab, &merges).unwrap_err())
    };
    assert!(error("#version: 0.2\nab\n").contains("merges, line 2: \"ab\": expected two symbols and a space"));
    assert!(error("q q\n").contains("merges, line 1: \"q q\": the vocabulary lacks \"qq\""));
    let missing = Tokenizer::from_files(&vocab, &folder.path().join("none.txt")).unwrap_err();
    assert!(format!("{missing:#}").contains("none.txt"));
}
