//! The published augmentation of training images and preparation of evaluated ones (DETR, section A.4).

use super::resize::{resize, resize_part};
use super::target::{Region, Target};
use anyhow::{Result, ensure};
use image::{RgbImage, imageops};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// An image with its target, both in pixels.
#[derive(Debug, Clone)]
pub struct Sample {
    /// RGB pixels.
    pub image: RgbImage,
    /// Boxes in xyxy pixels of `image`.
    pub target: Target,
}

/// How images are resized, cropped and mirrored. The default is the published one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransformConfig {
    /// Lengths of the shorter side in pixels, one of which is drawn for each training image.
    pub train_scales: Vec<u32>,
    /// Length of the shorter side in pixels when evaluating.
    pub val_scale: u32,
    /// Limit of the longer side in pixels.
    pub max_size: u32,
    /// The crop that every second training image gets, if any.
    pub crop: Option<CropConfig>,
    /// Keep the meaning of captions: crops leave every box in the image (if one of 100 draws does), nothing is mirrored.
    pub cautious: bool,
}

/// A resize followed by a crop of random size and place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CropConfig {
    /// Lengths of the shorter side in pixels before the crop, one of which is drawn.
    pub scales: Vec<u32>,
    /// Least side of the crop in pixels, where the image has as many.
    pub min_size: u32,
    /// Greatest side of the crop in pixels.
    pub max_size: u32,
}

impl Default for TransformConfig {
    fn default() -> Self {
        Self {
            train_scales: (480..=800).step_by(32).collect(),
            val_scale: 800,
            max_size: 1333,
            crop: Some(CropConfig::default()),
            cautious: true,
        }
    }
}

impl Default for CropConfig {
    fn default() -> Self {
        Self { scales: vec![400, 500, 600], min_size: 384, max_size: 1333 }
    }
}

impl TransformConfig {
    /// Fails if a size is zero or a choice is empty.
    pub fn check(&self) -> Result<()> {
        ensure!(!self.train_scales.is_empty(), "train_scales is empty: give at least one length in pixels");
        ensure!(!self.train_scales.contains(&0), "train_scales holds 0: give lengths in pixels");
        ensure!(self.val_scale > 0 && self.max_size > 0, "val_scale and max_size must be at least 1 pixel");
        if let Some(crop) = &self.crop {
            ensure!(
                !crop.scales.is_empty() && !crop.scales.contains(&0),
                "crop.scales must be lengths of at least 1 pixel"
            );
            let (min, max) = (crop.min_size, crop.max_size);
            ensure!(0 < min && min <= max, "crop sizes {min} to {max}: expected 1 <= min_size <= max_size");
        }
        Ok(())
    }

    /// A training image: mirrored one time in two unless cautious, cropped one time in two, resized to a drawn scale.
    pub fn train(&self, mut sample: Sample, rng: &mut ChaCha8Rng) -> Sample {
        if !self.cautious && rng.random() {
            sample = sample.flip();
        }
        if let Some(crop) = &self.crop
            && rng.random()
        {
            let scale = drawn(&crop.scales, rng);
            sample = sample.resize_and_crop(scale, |target| crop.region(target, self.cautious, rng));
        }
        sample.resize_shorter(drawn(&self.train_scales, rng), Some(self.max_size))
    }

    /// An image to evaluate: resized.
    pub fn val(&self, sample: Sample) -> Sample {
        sample.resize_shorter(self.val_scale, Some(self.max_size))
    }
}

impl CropConfig {
    /// Draws a crop; where boxes must stay, again until one keeps them all, at most 100 times.
    fn region(&self, target: &Target, keep_boxes: bool, rng: &mut ChaCha8Rng) -> Region {
        let [image_height, image_width] = target.size;
        let mut draw = || {
            let mut side = |length: u32| rng.random_range(self.min_size.min(length)..=self.max_size.min(length));
            let (width, height) = (side(image_width), side(image_height));
            let top = rng.random_range(0..=image_height - height);
            let left = rng.random_range(0..=image_width - width);
            Region { top, left, height, width }
        };
        let keeps_all = |region: Region| target.crop(region).objects.len() == target.objects.len();
        let mut region = draw();
        for _ in 1..100 {
            if !keep_boxes || keeps_all(region) {
                break;
            }
            region = draw();
        }
        region
    }
}

fn drawn(choices: &[u32], rng: &mut ChaCha8Rng) -> u32 {
    choices[rng.random_range(0..choices.len())]
}

impl Sample {
    /// Mirrors left and right, in the image, the boxes and the caption.
    pub fn flip(mut self) -> Self {
        imageops::flip_horizontal_in_place(&mut self.image);
        self.target.flip();
        self
    }

    /// Resizes to exactly `width` x `height` pixels.
    pub fn resize(mut self, width: u32, height: u32) -> Self {
        self.target.resize(width, height);
        Self { image: resize(&self.image, width, height), target: self.target }
    }

    /// Brings the shorter side to `shorter` pixels and cuts to a region of the resized target.
    pub fn resize_and_crop(mut self, shorter: u32, region: impl FnOnce(&Target) -> Region) -> Self {
        let (width, height) = size_with_aspect_ratio(self.image.width(), self.image.height(), shorter, None);
        self.target.resize(width, height);
        let region = region(&self.target);
        Self { image: resize_part(&self.image, width, height, region), target: self.target.crop(region) }
    }

    /// Resizes by [`size_with_aspect_ratio`].
    pub fn resize_shorter(self, shorter: u32, max_longer: Option<u32>) -> Self {
        let (width, height) = size_with_aspect_ratio(self.image.width(), self.image.height(), shorter, max_longer);
        self.resize(width, height)
    }
}

/// (width, height) in pixels that bring the shorter side to `shorter`, or to less where the longer one would pass
/// `max_longer`. Fractions are cut off, but a reduced shorter side is rounded half to even, as published; where that leaves
/// nothing of it, and the published program fails, a pixel stays.
pub fn size_with_aspect_ratio(width: u32, height: u32, shorter: u32, max_longer: Option<u32>) -> (u32, u32) {
    let (least, most) = (f64::from(width.min(height)), f64::from(width.max(height)));
    let shorter = match max_longer {
        Some(limit) if most / least * f64::from(shorter) > f64::from(limit) => {
            let shorter = (f64::from(limit) * least / most).round_ties_even() as u32;
            if shorter == 0 {
                return if width < height { (1, limit) } else { (limit, 1) };
            }
            shorter
        }
        _ => shorter,
    };
    let longer = |side: u32, other: u32| (f64::from(shorter) * f64::from(side) / f64::from(other)) as u32;
    if width.min(height) == shorter {
        (width, height)
    } else if width < height {
        (shorter, longer(height, width))
    } else {
        (longer(width, height), shorter)
    }
}
