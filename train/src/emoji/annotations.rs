//! The annotation file of a split: COCO with the keys of MDETR.

use serde::Serialize;

use super::caption::{Caption, Span};
use super::relation::PixelBox;

/// A whole annotation file.
#[derive(Debug, Serialize)]
pub(super) struct AnnotationFile {
    info: Info,
    categories: [Category; 1],
    images: Vec<ImageRecord>,
    annotations: Vec<BoxRecord>,
}

#[derive(Debug, Serialize)]
struct Info {
    description: &'static str,
    attribution: &'static str,
}

#[derive(Debug, Serialize)]
struct Category {
    id: usize,
    name: &'static str,
    supercategory: &'static str,
}

/// An image with its caption.
#[derive(Debug, Serialize)]
pub(super) struct ImageRecord {
    file_name: String,
    height: usize,
    width: usize,
    id: usize,
    caption: String,
    dataset_name: &'static str,
    original_img_id: usize,
    sentence_id: usize,
    /// The whole caption.
    tokens_negative: [Span; 1],
    /// The spans of every name in the caption, present or absent.
    tokens_positive_eval: Vec<[Span; 1]>,
    /// The spans of the names of absent things.
    absent: Vec<[Span; 1]>,
}

/// A named object.
#[derive(Debug, Serialize)]
pub(super) struct BoxRecord {
    id: usize,
    image_id: usize,
    category_id: usize,
    bbox: [f32; 4],
    area: f32,
    iscrowd: u8,
    tokens_positive: [Span; 1],
}

/// The records of one scene; ids of boxes are given when the file is put together.
#[derive(Debug)]
pub(super) struct SceneRecords {
    pub image: ImageRecord,
    boxes: Vec<BoxRecord>,
}

impl SceneRecords {
    /// Records the scene `id`: its caption, and the boxes of the objects that the caption names.
    pub fn new(id: usize, file_name: String, size: usize, caption: Caption, boxes: &[PixelBox]) -> Self {
        let record = |span: Span, at: &PixelBox| BoxRecord {
            id: 0,
            image_id: id,
            category_id: 1,
            bbox: [at.x, at.y, at.width, at.height].map(|v| v as f32),
            area: at.area() as f32,
            iscrowd: 0,
            tokens_positive: [span],
        };
        let named =
            caption.mentions.iter().flat_map(|m| m.objects.iter().map(|&object| record(m.span, &boxes[object])));
        let boxes = named.collect();
        let absent = caption.mentions.iter().filter(|mention| mention.objects.is_empty());
        let image = ImageRecord {
            file_name,
            height: size,
            width: size,
            id,
            dataset_name: "emoji",
            original_img_id: id,
            sentence_id: 0,
            tokens_negative: [[0, caption.text.chars().count()]],
            tokens_positive_eval: caption.mentions.iter().map(|mention| [mention.span]).collect(),
            absent: absent.map(|mention| [mention.span]).collect(),
            caption: caption.text,
        };
        Self { image, boxes }
    }

    /// Whether the caption names something absent.
    pub fn names_absent(&self) -> bool {
        !self.image.absent.is_empty()
    }
}

impl AnnotationFile {
    /// Puts the scenes of a split together.
    pub fn new(scenes: Vec<SceneRecords>) -> Self {
        let (mut images, mut annotations) = (vec![], vec![]);
        for scene in scenes {
            images.push(scene.image);
            for record in scene.boxes {
                annotations.push(BoxRecord { id: annotations.len(), ..record });
            }
        }
        Self {
            info: Info {
                description: "Scenes composed of emoji, with captions that name some of the objects",
                attribution: "Graphics: Twemoji, copyright Twitter, Inc and other contributors, CC-BY 4.0",
            },
            categories: [Category { id: 1, name: "object", supercategory: "object" }],
            images,
            annotations,
        }
    }

    pub fn boxes(&self) -> usize {
        self.annotations.len()
    }
}
