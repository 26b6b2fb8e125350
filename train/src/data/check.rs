//! What an annotation file must hold before it is used.
//!
//! A **problem** makes a row useless, and is an error unless such rows are to be skipped: a key that is missing or has the
//! wrong type, an id that occurs twice, an image that is not in the file or not on the disk, a caption that is longer than
//! the text encoder reads, a box that holds NaN or has a negative side, a box to train on without `tokens_positive`, a
//! span that is out of the caption or covers nothing but spaces. No published file holds one.
//!
//! A **note** is what the published program takes in silence, and what happens here too: boxes that reach out of the image
//! are cut, those with no area in it and crowds are left out, a box with an empty list of spans has no words, and
//! words from the 256th token on are no targets. Images without boxes and blank captions are examples like others.

use super::coco::{Annotation, AnnotationFile, ImageRecord, Row};
use super::dataset::{DatasetConfig, Split};
use super::positive_map::USABLE_TOKENS;
use super::problems::{Problems, Reason};
use super::target::{clamped, has_extent, xyxy};
use super::{Span, Tokenizer};
use rayon::prelude::*;
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::fmt::Display;

/// What was found in an annotation file.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// Image records in the file.
    pub images: usize,
    /// Annotations in the file.
    pub annotations: usize,
    /// Image records that are not bad.
    pub good_images: usize,
    /// Annotations that are not bad, of images that are not bad.
    pub good_annotations: usize,
    /// Rows that cannot be used.
    pub problems: Problems,
    /// What is done to rows that can.
    pub notes: Problems,
}

type Finding = (Reason, String);

/// An image with its annotations in the file's order.
pub type Record = (ImageRecord, Vec<Annotation>);

/// The good rows by ascending image id, and what was found.
pub(super) fn check(file: AnnotationFile, config: &DatasetConfig, tokenizer: &Tokenizer) -> (Vec<Record>, Report) {
    let mut report = Report { images: file.images.len(), annotations: file.annotations.len(), ..Report::default() };
    let (mut images, bad_ids) = good_images(file.images, config, tokenizer, &mut report);
    images.sort_by_key(|image| image.id);
    report.good_images = images.len();
    let mut records: Vec<Record> = images.into_iter().map(|image| (image, Vec::new())).collect();
    add_annotations(&mut records, file.annotations, &bad_ids, config.split, &mut report);
    report.good_annotations = records.iter().map(|(_, annotations)| annotations.len()).sum();
    for (image, _) in records.iter().filter(|(_, annotations)| annotations.is_empty()) {
        report.notes.add(format_args!("image {}", image.id), Reason::ImageWithoutBoxes, "it has no box");
    }
    (records, report)
}

/// The good images, and the ids of the others. An id that occurs twice makes both images bad, as nobody knows which of
/// them its annotations belong to.
fn good_images(
    rows: Vec<Row<ImageRecord>>,
    config: &DatasetConfig,
    tokenizer: &Tokenizer,
    report: &mut Report,
) -> (Vec<ImageRecord>, HashSet<i64>) {
    let (mut seen, mut bad_ids) = (HashSet::new(), HashSet::new());
    bad_ids.extend(rows.iter().flatten().map(|image| image.id).filter(|&id| !seen.insert(id)));
    let finding = |image: &ImageRecord| {
        let twice = || bad_ids.contains(&image.id).then(|| (Reason::DuplicateId, ID_TWICE.to_owned()));
        let problem = twice().or_else(|| image_problem(image, config, tokenizer));
        problem.or_else(|| caption_note(&image.caption, tokenizer))
    };
    let mut findings = findings(&rows, finding);
    let mut good = Vec::new();
    for (at, row) in rows.into_iter().enumerate() {
        match row {
            Ok(image) => match report.add(format_args!("image {}", image.id), findings.of(at)) {
                true => good.push(image),
                false => _ = bad_ids.insert(image.id),
            },
            Err(malformed) => {
                report.problems.add(item("image", malformed.id, at), Reason::Malformed, malformed.reason);
                bad_ids.extend(malformed.id);
            }
        }
    }
    (good, bad_ids)
}

const ID_TWICE: &str = "the id occurs twice: ids must be unique";

/// Gives the good annotations to their records.
fn add_annotations(
    records: &mut [Record],
    rows: Vec<Row<Annotation>>,
    bad_images: &HashSet<i64>,
    split: Split,
    report: &mut Report,
) {
    let record_of: HashMap<i64, usize> = records.iter().enumerate().map(|(at, (image, _))| (image.id, at)).collect();
    let finding = |annotation: &Annotation| {
        let Some(&record) = record_of.get(&annotation.image_id) else {
            let detail = || format!("image_id {} is not among the images", annotation.image_id);
            return (!bad_images.contains(&annotation.image_id)).then(|| (Reason::UnknownImage, detail()));
        };
        let image = &records[record].0;
        annotation_problem(annotation, &image.caption, split).or_else(|| box_note(annotation, image))
    };
    let mut findings = findings(&rows, finding);
    let mut seen = HashSet::new();
    for (at, row) in rows.into_iter().enumerate() {
        let finding = findings.of(at);
        match row {
            Ok(annotation) => {
                let twice = (!seen.insert(annotation.id)).then(|| (Reason::DuplicateId, ID_TWICE.to_owned()));
                let name = format_args!("annotation {} of image {}", annotation.id, annotation.image_id);
                let is_good = report.add(name, twice.or(finding));
                if let (true, Some(&record)) = (is_good, record_of.get(&annotation.image_id)) {
                    records[record].1.push(annotation);
                }
            }
            Err(malformed) => {
                report.problems.add(item("annotation", malformed.id, at), Reason::Malformed, malformed.reason);
            }
        }
    }
}

/// What was found in the rows of a list, by their place.
struct Findings(std::iter::Peekable<std::vec::IntoIter<(usize, Finding)>>);

/// Looks at all rows that are none malformed, in parallel.
fn findings<T: Sync>(rows: &[Row<T>], look: impl Fn(&T) -> Option<Finding> + Sync) -> Findings {
    let found = rows.par_iter().enumerate().filter_map(|(at, row)| Some((at, look(row.as_ref().ok()?)?)));
    Findings(found.collect::<Vec<_>>().into_iter().peekable())
}

impl Findings {
    /// That of the row at `at`; places ascend from call to call.
    fn of(&mut self, at: usize) -> Option<Finding> {
        self.0.next_if(|(place, _)| *place == at).map(|(_, finding)| finding)
    }
}

impl Report {
    /// Adds what was found, and whether the row is good nevertheless.
    fn add(&mut self, item: impl Display, finding: Option<Finding>) -> bool {
        match finding {
            Some((reason, detail)) if reason.is_note() => self.notes.add(item, reason, detail),
            Some((reason, detail)) => {
                self.problems.add(item, reason, detail);
                return false;
            }
            None => {}
        }
        true
    }
}

/// "image 12", or its place in the file.
fn item(kind: &str, id: Option<i64>, at: usize) -> String {
    id.map_or_else(|| format!("{kind}s[{at}]"), |id| format!("{kind} {id}"))
}

fn image_problem(image: &ImageRecord, config: &DatasetConfig, tokenizer: &Tokenizer) -> Option<Finding> {
    let path = config.folders.path(image);
    if !path.is_file() {
        return Some((Reason::MissingImage, format!("there is no file {}", path.display())));
    }
    let limit = config.max_tokens;
    if let Some(tokens) = tokens_beyond(&image.caption, limit, tokenizer) {
        let detail = format!("the caption has {tokens} tokens, the text encoder reads at most {limit}: shorten it");
        return Some((Reason::CaptionTooLong, detail));
    }
    let spans = image.tokens_positive_eval.iter().flatten().flatten();
    let (reason, detail) = spans.copied().find_map(|span| span_problem(span, &image.caption))?;
    Some((reason, format!("tokens_positive_eval: {detail}")))
}

/// How many tokens a caption has, if they are more than `limit`. Every token is at least a byte, so that most captions
/// need not be tokenized.
fn tokens_beyond(caption: &str, limit: usize, tokenizer: &Tokenizer) -> Option<usize> {
    const ADDED: usize = 2; // <s> and </s>
    let may_be = caption.len() + ADDED > limit;
    may_be.then(|| tokenizer.encode(caption).ids.len()).filter(|&tokens| tokens > limit)
}

fn annotation_problem(annotation: &Annotation, caption: &str, split: Split) -> Option<Finding> {
    let bbox = annotation.bbox;
    if !bbox.iter().all(|value| value.is_finite()) {
        return Some((Reason::BoxNotFinite, format!("bbox is {bbox:?}: expected x, y, width, height in pixels")));
    }
    if bbox[2] < 0.0 || bbox[3] < 0.0 {
        let detail = format!("bbox is {bbox:?}: expected x, y, width, height, the last two not negative");
        return Some((Reason::BoxNegative, detail));
    }
    match &annotation.tokens_positive {
        Some(spans) => spans.iter().find_map(|&span| span_problem(span, caption)),
        None if split == Split::Train => {
            let detail = "tokens_positive is missing: give the [begin, end] ranges of the caption that name the box";
            Some((Reason::SpansMissing, detail.to_owned()))
        }
        None => None,
    }
}

/// Why a span names no part of a caption.
pub fn span_problem([begin, end]: Span, caption: &str) -> Option<(Reason, String)> {
    let Some(length) = end.checked_sub(begin) else {
        return Some((Reason::SpanOutOfRange, format!("the span [{begin}, {end}] ends before it begins")));
    };
    let covered = || caption.chars().skip(begin).take(length);
    if covered().count() < length {
        let all = caption.chars().count();
        let detail = format!("the span [{begin}, {end}] is not within the caption's {all} code points");
        return Some((Reason::SpanOutOfRange, detail));
    }
    let what = if length == 0 { "nothing" } else { "only spaces" };
    let blank = || (Reason::SpanBlank, format!("the span [{begin}, {end}] covers {what}"));
    covered().all(char::is_whitespace).then(blank)
}

fn caption_note(caption: &str, tokenizer: &Tokenizer) -> Option<Finding> {
    if caption.trim().is_empty() {
        return Some((Reason::CaptionBlank, "the caption is blank".to_owned()));
    }
    let tokens = tokens_beyond(caption, USABLE_TOKENS, tokenizer)?;
    let detail = format!("the caption has {tokens} tokens: words beyond the first {USABLE_TOKENS} are no targets");
    Some((Reason::CaptionBeyondColumns, detail))
}

fn box_note(annotation: &Annotation, image: &ImageRecord) -> Option<Finding> {
    if annotation.iscrowd {
        return Some((Reason::Crowd, "iscrowd is set: left out".to_owned()));
    }
    let size = [image.width, image.height].map(|side| side.map_or(f32::INFINITY, |side| side as f32));
    let (bbox, whole) = (annotation.bbox, xyxy(annotation.bbox));
    let part = clamped(whole, size);
    if !has_extent(part) {
        return Some((Reason::BoxDropped, format!("bbox {bbox:?} has no area in the image: left out")));
    }
    if part != whole {
        return Some((Reason::BoxClamped, format!("bbox {bbox:?} reaches out of the image: cut")));
    }
    let no_words = annotation.tokens_positive.as_ref().is_some_and(Vec::is_empty);
    no_words.then(|| (Reason::BoxWithoutWords, "tokens_positive is empty: the box has no words".to_owned()))
}
