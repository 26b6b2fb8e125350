//! MDETR's annotation files: COCO's layout, one image record a caption.
//!
//! The rows of a file are found first and then read one by one, in parallel: a row of a wrong type is one problem among
//! others, and a file takes the memory of its bytes and of its records, no tree of values.

use super::Span;
use super::python_numbers::{self, Number};
use anyhow::{Context, Result, bail, ensure};
use rayon::prelude::*;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error};
use serde_json::value::RawValue;
use std::ops::Range;

/// An image with one of its captions.
#[derive(Debug, Clone, Deserialize)]
pub struct ImageRecord {
    /// Unique in the file.
    pub id: i64,
    /// Path of the image file below the image folder.
    pub file_name: String,
    /// What the image shows; spans count its code points.
    pub caption: String,
    /// Columns of pixels, if the file says it in a number. Boxes are cut by what the image file says.
    #[serde(default, deserialize_with = "pixels")]
    pub width: Option<u32>,
    /// Rows of pixels, likewise.
    #[serde(default, deserialize_with = "pixels")]
    pub height: Option<u32>,
    /// Which data set the record comes from, where one file mixes several.
    pub dataset_name: Option<String>,
    /// Which image folder the file is in, where there are several ("coco", "vg").
    pub data_source: Option<String>,
    /// Id of the picture in its own data set.
    #[serde(default, deserialize_with = "text_or_number")]
    pub original_img_id: Option<String>,
    /// Number of the caption among those of its picture (Flickr30k Entities).
    pub sentence_id: Option<i64>,
    /// Id of the expression in its own data set (referring expressions).
    #[serde(default, deserialize_with = "text_or_number")]
    pub original_id: Option<String>,
    /// Id of the phrase (PhraseCut).
    #[serde(default, deserialize_with = "text_or_number")]
    pub task_id: Option<String>,
    /// The phrases to ground when evaluating, each a list of spans.
    pub tokens_positive_eval: Option<Vec<Vec<Span>>>,
}

/// A box of an image record.
#[derive(Debug, Clone, Deserialize)]
pub struct Annotation {
    /// Unique in the file.
    pub id: i64,
    /// The image record.
    pub image_id: i64,
    /// The kind of object; MDETR's own files have one kind.
    pub category_id: i64,
    /// x, y, width, height in pixels.
    #[serde(deserialize_with = "numbers")]
    pub bbox: [f64; 4],
    /// Pixels; the box's where it is missing.
    #[serde(default, deserialize_with = "number")]
    area: Option<f64>,
    /// A group that counts as one object: ignored in training.
    #[serde(default, deserialize_with = "flag")]
    pub iscrowd: bool,
    /// Whether the whole caption is about this box (CLEVR-Ref+).
    #[serde(default, deserialize_with = "flag")]
    pub isfinal: bool,
    /// The parts of the caption that name the box; CLEVR's files call them `tokens`.
    #[serde(alias = "tokens")]
    pub tokens_positive: Option<Vec<Span>>,
}

impl Annotation {
    /// Area in pixels, that of the box if the file gives none.
    pub fn area(&self) -> f64 {
        self.area.unwrap_or(self.bbox[2] * self.bbox[3])
    }
}

fn text_or_number<'de, D: Deserializer<'de>>(input: D) -> Result<Option<String>, D::Error> {
    match serde_json::Value::deserialize(input)? {
        serde_json::Value::Null => Ok(None),
        serde_json::Value::String(text) => Ok(Some(text)),
        serde_json::Value::Number(number) => Ok(Some(number.to_string())),
        other => Err(D::Error::custom(format!("expected a text or a number, found {other}"))),
    }
}

fn flag<'de, D: Deserializer<'de>>(input: D) -> Result<bool, D::Error> {
    match serde_json::Value::deserialize(input)? {
        serde_json::Value::Bool(set) => Ok(set),
        serde_json::Value::Number(number) => Ok(number.as_f64() != Some(0.0)),
        other => Err(D::Error::custom(format!("expected 0, 1, false or true, found {other}"))),
    }
}

/// A length that only notes are made of: anything else than a whole number counts as none.
fn pixels<'de, D: Deserializer<'de>>(input: D) -> Result<Option<u32>, D::Error> {
    Ok(serde_json::Value::deserialize(input)?.as_u64().and_then(|pixels| u32::try_from(pixels).ok()))
}

fn numbers<'de, D: Deserializer<'de>>(input: D) -> Result<[f64; 4], D::Error> {
    Ok(<[Number; 4]>::deserialize(input)?.map(|number| number.0))
}

fn number<'de, D: Deserializer<'de>>(input: D) -> Result<Option<f64>, D::Error> {
    Ok(Option::<Number>::deserialize(input)?.map(|number| number.0))
}

/// The rows of an annotation file in its order.
#[derive(Debug)]
pub struct AnnotationFile {
    /// Its `images`.
    pub images: Vec<Row<ImageRecord>>,
    /// Its `annotations`.
    pub annotations: Vec<Row<Annotation>>,
}

/// A row of a file, or why it is none.
pub type Row<T> = std::result::Result<T, Malformed>;

/// A row that lacks a key or holds a wrong type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// Its id, if it has one.
    pub id: Option<i64>,
    /// What is wrong, and at which line and column of the file.
    pub reason: String,
}

/// Reads the bytes of an annotation file.
///
/// Errors: they are no JSON, or not a JSON object with the lists `images` and `annotations`.
pub fn parse(mut bytes: Vec<u8>) -> Result<AnnotationFile> {
    ensure!(!bytes.trim_ascii().is_empty(), "the file is empty");
    ensure!(!bytes.starts_with(&[0x1f, 0x8b]), "the file is compressed: unpack it with gunzip");
    let rows = match Rows::find(&bytes) {
        Err(error) if error.is_syntax() && python_numbers::quote(&mut bytes) => Rows::find(&bytes),
        found => found,
    };
    let rows = match rows {
        Err(error) if error.is_eof() => bail!("the JSON stops before its end ({error}): is the file truncated?"),
        Err(error) if error.is_syntax() => bail!("the file is not JSON: {error}"),
        found => found.context("expected COCO annotations: an object with the lists `images` and `annotations`")?,
    };
    Ok(AnnotationFile { images: read(&bytes, &rows.images), annotations: read(&bytes, &rows.annotations) })
}

/// Where the rows of a file lie in its bytes.
struct Rows {
    images: Vec<Range<usize>>,
    annotations: Vec<Range<usize>>,
}

impl Rows {
    fn find(bytes: &[u8]) -> serde_json::Result<Self> {
        #[derive(Deserialize)]
        struct Lists<'a> {
            #[serde(borrow)]
            images: Vec<&'a RawValue>,
            #[serde(borrow)]
            annotations: Vec<&'a RawValue>,
        }
        let Lists { images, annotations } = serde_json::from_slice(bytes)?;
        let range = |row: &RawValue| {
            let start = row.get().as_ptr().addr() - bytes.as_ptr().addr();
            start..start + row.get().len()
        };
        let ranges = |rows: Vec<&RawValue>| rows.into_iter().map(range).collect();
        Ok(Self { images: ranges(images), annotations: ranges(annotations) })
    }
}

fn read<T: DeserializeOwned + Send>(bytes: &[u8], rows: &[Range<usize>]) -> Vec<Row<T>> {
    let read: Vec<serde_json::Result<T>> =
        rows.par_iter().map(|row| serde_json::from_slice(&bytes[row.clone()])).collect();
    let mut place = Place { line: 1, line_start: 0, at: 0 };
    let with_place = |(result, row): (serde_json::Result<T>, &Range<usize>)| {
        result.map_err(|error| place.malformed(bytes, row, &error))
    };
    read.into_iter().zip(rows).map(with_place).collect()
}

/// A place in a file, moved forward from one malformed row to the next.
struct Place {
    line: usize,
    line_start: usize,
    at: usize,
}

impl Place {
    fn malformed(&mut self, bytes: &[u8], row: &Range<usize>, error: &serde_json::Error) -> Malformed {
        for (at, _) in bytes[self.at..row.start].iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
            self.line += 1;
            self.line_start = self.at + at + 1;
        }
        self.at = row.start;
        let within_row = format!(" at line {} column {}", error.line(), error.column());
        let before_row = if error.line() == 1 { row.start - self.line_start } else { 0 };
        let (line, column) = (self.line + error.line() - 1, before_row + error.column());
        let reason = error.to_string();
        let reason = reason.strip_suffix(&within_row).unwrap_or(&reason);
        let reason = format!("{reason} (line {line}, column {column})");
        Malformed { id: id_of(&bytes[row.clone()]), reason }
    }
}

fn id_of(row: &[u8]) -> Option<i64> {
    #[derive(Deserialize)]
    struct OnlyId {
        id: i64,
    }
    serde_json::from_slice(row).ok().map(|OnlyId { id }| id)
}
