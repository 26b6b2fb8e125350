//! Image files: decoded, turned upright, and prepared for training and evaluation.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mdetr_train::data::image::{decode, normalize};
use mdetr_train::data::transforms::Sample;
use mdetr_train::data::{CropConfig, Target, TransformConfig};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

fuzz_target!(init: look_over_decoders(), |bytes: &[u8]| {
    let Ok(picture) = decode(bytes) else { return };
    let image = picture.upright();
    let size = [image.height(), image.width()];
    let target = Target { size, orig_size: size, ..Target::default() };
    let sample = Sample { image, target };
    let transforms = TransformConfig {
        train_scales: vec![24, 32],
        val_scale: 32,
        max_size: 48,
        crop: Some(CropConfig { scales: vec![20, 40], min_size: 16, max_size: 48 }),
        cautious: false,
    };
    let mut rng = ChaCha8Rng::seed_from_u64(bytes.len() as u64);
    normalize(&transforms.train(sample.clone(), &mut rng).image);
    normalize(&transforms.val(sample).image);
});

/// A dependency's panic is none of the reader's, which catches it.
fn look_over_decoders() {
    let abort = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.location().is_some_and(|at| at.file().contains("/registry/")) {
            abort(panic);
        }
    }));
}
