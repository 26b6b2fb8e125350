//! What an image is trained or evaluated against, and how cropping, mirroring and resizing change it.

use super::Span;
use super::caption::MirroredCaption;
use super::coco::{Annotation, ImageRecord};

/// One annotated box with the words that name it.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// xyxy in pixels of the current image; (cx, cy, w, h) as fractions after [`Target::normalize`].
    pub bbox: [f32; 4],
    /// The category id of the annotation.
    pub label: i64,
    /// Pixels of the current image.
    pub area: f32,
    /// Whether the whole caption is about this box (CLEVR-Ref+).
    pub isfinal: bool,
    /// The parts of the caption that name the box.
    pub tokens_positive: Vec<Span>,
}

/// The annotation of one image and caption.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Target {
    /// Id of the image record: one image file may have many, one a caption.
    pub image_id: i64,
    /// The caption that the spans refer to.
    pub caption: String,
    /// Annotated boxes: neither crowds nor empty ones.
    pub objects: Vec<Object>,
    /// (height, width) of the current image.
    pub size: [u32; 2],
    /// (height, width) of the image file.
    pub orig_size: [u32; 2],
    /// Which data set the record comes from, where one file mixes several.
    pub dataset_name: Option<String>,
    /// Id of the picture in its own data set.
    pub original_img_id: Option<String>,
    /// Number of the caption among those of its picture (Flickr30k Entities).
    pub sentence_id: Option<i64>,
    /// Id of the expression in its own data set (referring expressions).
    pub original_id: Option<String>,
    /// Id of the phrase (PhraseCut).
    pub task_id: Option<String>,
}

/// A rectangle of pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// First row.
    pub top: u32,
    /// First column.
    pub left: u32,
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
}

impl Target {
    /// The target of a record whose image file has `width` x `height` pixels. Crowds are left out, boxes are clamped to the
    /// image, and those that have no width or height left are dropped; a missing area is that of the annotated box.
    pub fn new(image: &ImageRecord, annotations: &[Annotation], width: u32, height: u32) -> Self {
        let object = |annotation: &Annotation| Object {
            bbox: clamped(xyxy(annotation.bbox), [width, height].map(|side| side as f32)),
            label: annotation.category_id,
            area: annotation.area() as f32,
            isfinal: annotation.isfinal,
            tokens_positive: annotation.tokens_positive.clone().unwrap_or_default(),
        };
        Self {
            image_id: image.id,
            caption: image.caption.clone(),
            objects: annotations.iter().filter(|a| !a.iscrowd).map(object).filter(|o| has_extent(o.bbox)).collect(),
            size: [height, width],
            orig_size: [height, width],
            dataset_name: image.dataset_name.clone(),
            original_img_id: image.original_img_id.clone(),
            sentence_id: image.sentence_id,
            original_id: image.original_id.clone(),
            task_id: image.task_id.clone(),
        }
    }

    /// Cuts to `region`. Objects that are outside go, together with their spans.
    pub fn crop(&self, region: Region) -> Self {
        let mut target = self.clone();
        let (left, top) = (region.left as f32, region.top as f32);
        for object in &mut target.objects {
            let [x0, y0, x1, y1] = object.bbox;
            let size = [region.width, region.height].map(|side| side as f32);
            let [x0, y0, x1, y1] = clamped([x0 - left, y0 - top, x1 - left, y1 - top], size);
            object.bbox = [x0, y0, x1, y1];
            object.area = (x1 - x0) * (y1 - y0);
        }
        target.objects.retain(|object| has_extent(object.bbox));
        target.size = [region.height, region.width];
        target
    }

    /// Mirrors left and right, in the boxes and in the caption.
    pub fn flip(&mut self) {
        let width = self.size[1] as f32;
        let mirrored = MirroredCaption::new(&self.caption);
        for object in &mut self.objects {
            let [x0, y0, x1, y1] = object.bbox;
            object.bbox = [width - x1, y0, width - x0, y1];
            object.tokens_positive.iter_mut().for_each(|span| *span = mirrored.span(*span));
        }
        self.caption = mirrored.text;
    }

    /// Scales to an image of `width` x `height` pixels.
    pub fn resize(&mut self, width: u32, height: u32) {
        let x_ratio = f64::from(width) / f64::from(self.size[1]);
        let y_ratio = f64::from(height) / f64::from(self.size[0]);
        for object in &mut self.objects {
            let [x0, y0, x1, y1] = object.bbox;
            let (x, y) = (x_ratio as f32, y_ratio as f32);
            object.bbox = [x0 * x, y0 * y, x1 * x, y1 * y];
            object.area *= (x_ratio * y_ratio) as f32;
        }
        self.size = [height, width];
    }

    /// xyxy pixels to (cx, cy, w, h) as fractions of the image.
    pub fn normalize(&mut self) {
        let [height, width] = self.size.map(|side| side as f32);
        for object in &mut self.objects {
            let [x0, y0, x1, y1] = object.bbox;
            object.bbox = [(x0 + x1) / 2.0 / width, (y0 + y1) / 2.0 / height, (x1 - x0) / width, (y1 - y0) / height];
        }
    }
}

/// Corners of an annotated box, in the published program's precision.
pub(super) fn xyxy(bbox: [f64; 4]) -> [f32; 4] {
    let [x, y, w, h] = bbox.map(|value| value as f32);
    [x, y, x + w, y + h]
}

/// The part of a box that lies in an image of `width` x `height` pixels.
pub(super) fn clamped([x0, y0, x1, y1]: [f32; 4], [width, height]: [f32; 2]) -> [f32; 4] {
    [x0.clamp(0.0, width), y0.clamp(0.0, height), x1.clamp(0.0, width), y1.clamp(0.0, height)]
}

pub(super) fn has_extent([x0, y0, x1, y1]: [f32; 4]) -> bool {
    x1 > x0 && y1 > y0
}
